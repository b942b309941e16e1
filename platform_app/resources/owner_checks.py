"""Check owners, in `check`, at the start of `serve` and after each reload of the config file: keys of owners that are
misspelt or not declared, and the budgets that owners share."""

import re
from collections.abc import Iterator, Mapping

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from platform_app.config import PlatformConfig, did_you_mean
from platform_app.observability.logging import get_logger
from platform_app.readiness import Check

MAX_LINES = 20
"""Of one run; `check` shows the others."""
SHORTEST_PART = 5
_SEPARATORS = re.compile(r"[-_. /@]+")
_ACTIVE = text(
    "SELECT owner, count(*) FROM api_keys WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) "
    "GROUP BY owner ORDER BY owner LIMIT 1000"
)


_log = get_logger("config")


class OwnerWarnings:
    """Log owners that look misspelt: each warning once, until a change makes it another one."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._logged: frozenset[Check] = frozenset()

    async def log(self, config: PlatformConfig) -> None:
        """Compare the owners of active keys with those of the config file. If the database cannot be read, nothing is
        compared. Of many warnings the first MAX_LINES are logged, and the number of the others."""
        if (keys := await active_owners(self._engine)) is None:
            return
        found = [check for check in owner_checks(config, keys) if not check.ok]
        new = [each for each in found if each not in self._logged]
        for check in new[:MAX_LINES]:
            _log.warning("owner_name_suspected", owner=check.name.removeprefix("owner "), problem=check.detail)
        if left_out := new[MAX_LINES:]:
            _log.warning("owner_warnings_left_out", count=len(left_out), next_step="run: flowbiz-platform check")
        self._logged = frozenset(found)


async def active_owners(engine: AsyncEngine) -> dict[str, int] | None:
    """Return the number of active keys of each owner, or None if the database cannot be read."""
    try:
        async with engine.connect() as connection:
            return {str(owner): int(count) for owner, count in await connection.execute(_ACTIVE)}
    except (SQLAlchemyError, OSError, TimeoutError):
        return None  # the checks of the database say why


def owner_checks(config: PlatformConfig, keys: Mapping[str, int]) -> Iterator[Check]:
    """Yield the owners with their budgets, and a warning for each that looks misspelt."""
    shown = ", ".join(f"{owner} ({count} key{'s' if count != 1 else ''})" for owner, count in list(keys.items())[:20])
    more = f" and {len(keys) - 20} more" if len(keys) > 20 else ""
    budgets = [rule.name for rule in config.rate_limits.rules if rule.scope == "owner"]
    limits = f"; each has the limits {', '.join(budgets)}" if budgets else "; no limit rule counts by owner"
    yield Check("owners", True, False, f"{shown or 'no active key'}{more}{limits}")
    if config.owners is None:
        yield from _similar(list(keys))
        return
    # Before those of keys, which may be many: the file is what an operator has just changed.
    for owner in config.owners:
        if owner not in keys:
            similar = did_you_mean(owner, keys)
            advice = f"did you mean '{similar}'?" if similar else "create one, or remove the owner"
            yield _warning(owner, f"is under owners in the config file and has no active key; {advice}")
    for owner in keys:
        if owner not in config.owners:
            similar = did_you_mean(owner, config.owners)
            advice = f"did you mean '{similar}'?" if similar else "add it there"
            yield _warning(owner, f"has {keys[owner]} active keys and is not under owners in the config file; {advice}")


def _similar(owners: list[str]) -> Iterator[Check]:
    """Yield a warning for each owner whose name is close to that of an earlier one: their budgets are separate."""
    for index, owner in enumerate(owners):
        other = next((other for other in owners[:index] if _resemble(owner, other)), None)
        if other is not None:
            yield _warning(
                owner,
                f"resembles the owner '{other}'; they have separate limits. Change one with 'keys update --owner', or "
                "declare both under owners in the config file",
            )


def _resemble(one: str, other: str) -> bool:
    """Return whether two names differ as by a typing mistake: in one part only, which is long and has no digits. So
    `paymnts` resembles `payments`, and `team-a` does not resemble `team-b`."""
    parts = [_SEPARATORS.split(name.lower()) for name in (one, other)]
    if len(parts[0]) != len(parts[1]):
        return False
    differing = [pair for pair in zip(*parts, strict=True) if pair[0] != pair[1]]
    if len(differing) != 1:
        return not differing
    long = min(map(len, differing[0])) >= SHORTEST_PART and not any(map(str.isdigit, "".join(differing[0])))
    return long and did_you_mean(differing[0][0], differing[0][1:]) is not None


def _warning(owner: str, detail: str) -> Check:
    return Check(f"owner {owner}", False, False, detail)
