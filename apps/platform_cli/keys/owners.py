"""The owners of keys: how many keys each has, and what is left of its budgets."""

import difflib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import typer

from apps.platform_cli.keys.session import all_keys, with_keys
from apps.platform_cli.terminal.durations import relative
from apps.platform_cli.terminal.table import table_lines, terminal_columns
from platform_app.auth.keys.records import KeyFilter, KeyRecord
from platform_app.config import Settings, load_config
from platform_app.db.engine import make_engine
from platform_app.errors import LimiterUnavailable
from platform_app.ledger.reading.spent import SpentReader
from platform_app.rate_limit.limiter import RuleState
from platform_app.rate_limit.limiters.opening import open_redis_limiter
from platform_app.rate_limit.matching import LimitedRequest, RuleBook
from platform_app.rate_limit.rule import Rule
from platform_app.rate_limit.service import RateLimitService
from platform_app.resources.budget_history import LedgerHistory
from platform_app.resources.key_admin import KeyAdmin

_HEADER = ("OWNER", "ACTIVE KEYS", "ALL KEYS", "LAST USED", "LIMITS OF THE OWNER")
_ROUTE = "/v1/platform/chat"
_SIMILAR = 0.8
"""Names that are at least this similar are taken for two spellings of one."""


@dataclass(frozen=True, slots=True)
class Owner:
    """An owner, as its keys and the limit rules of scope `owner` show it."""

    name: str
    active_keys: int
    keys: int
    last_used_at: datetime | None
    budgets: Sequence[tuple[Rule, RuleState | None]]
    """Each rule that counts by owner, and what is left of it; None if Redis does not respond."""

    def plain(self) -> dict[str, Any]:
        """Return the owner as data for JSON."""
        return {
            "owner": self.name,
            "active_keys": self.active_keys,
            "keys": self.keys,
            "last_used_at": None if self.last_used_at is None else self.last_used_at.isoformat(),
            "budgets": [
                {
                    "rule": rule.name,
                    "unit": rule.unit,
                    "limit": float(rule.shown(rule.limit)),
                    "window": rule.shown_window,
                    "remaining": None if state is None else float(rule.shown(state.remaining)),
                }
                for rule, state in self.budgets
            ],
        }


def print_owners(settings: Settings, as_json: bool) -> None:
    """Print every owner that has a key, by name."""
    config = load_config(settings)
    rules = [rule for rule in config.rate_limits.rules if rule.scope == "owner"]

    async def work(admin: KeyAdmin) -> list[Owner]:
        by_owner: dict[str, list[KeyRecord]] = {}
        for record in await all_keys(admin, KeyFilter()):
            by_owner.setdefault(record.owner, []).append(record)
        left = await _left(settings, RuleBook(rules), sorted(by_owner), settings.default_model)
        return [_owner(name, by_owner[name], left[name]) for name in sorted(by_owner)]

    found = with_keys(settings, work)
    if as_json:
        typer.echo(json.dumps([owner.plain() for owner in found]))
        return
    if not found:
        typer.echo("No owner has a key.", err=True)
        return
    now = datetime.now(UTC)
    rows = [_row(owner, now) for owner in found]
    sys.stdout.write("\n".join(table_lines(_HEADER, rows, terminal_columns())) + "\n")


async def note_similar_owner(admin: KeyAdmin, owner: str) -> None:
    """Print a note to stderr if this owner's first key was created, and another owner has a similar name."""
    names = [record.owner for record in await all_keys(admin, KeyFilter())]
    if names.count(owner) > 1:
        return
    folded = {name.casefold(): name for name in names if name != owner}
    similar = difflib.get_close_matches(owner.casefold(), folded, 1, _SIMILAR)
    if similar:
        name = folded[similar[0]]
        typer.echo(
            f"Note: this is the first key of the owner '{owner}', and '{name}' has keys already. If it is misspelt, "
            "change it with: keys update KEY_ID --owner",
            err=True,
        )


async def _left(
    settings: Settings, book: RuleBook, owners: Sequence[str], model: str
) -> Mapping[str, Sequence[tuple[Rule, RuleState | None]]]:
    engine = make_engine(settings)
    try:
        async with open_redis_limiter(settings, LedgerHistory(SpentReader(engine, settings.spool_dir))) as limiter:
            service = RateLimitService(book, limiter)
            return {owner: await _of_owner(service, LimitedRequest("", owner, _ROUTE, model)) for owner in owners}
    finally:
        await engine.dispose()


async def _of_owner(service: RateLimitService, usage: LimitedRequest) -> Sequence[tuple[Rule, RuleState | None]]:
    if not service.rules.rules:
        return ()
    try:
        return [(each.rule, state) for each, state in await service.explain(usage)]
    except LimiterUnavailable:
        return [(each.rule, None) for each in service.rules.explain(usage)]


def _owner(name: str, records: Sequence[KeyRecord], budgets: Sequence[tuple[Rule, RuleState | None]]) -> Owner:
    used = [record.last_used_at for record in records if record.last_used_at is not None]
    active = sum(record.status() == "active" for record in records)
    return Owner(name, active, len(records), max(used, default=None), budgets)


def _row(owner: Owner, now: datetime) -> list[str]:
    used = "never" if owner.last_used_at is None else relative(owner.last_used_at, now)
    budgets = "; ".join(_budget(rule, state) for rule, state in owner.budgets)
    return [owner.name, str(owner.active_keys), str(owner.keys), used, budgets or "none"]


def _budget(rule: Rule, state: RuleState | None) -> str:
    left = "unknown, Redis does not respond" if state is None else f"{rule.shown(state.remaining)} left"
    unit = {"cost_usd": "USD", "concurrent": "concurrent requests"}.get(rule.unit, rule.unit)
    return f"{rule.name}: {rule.shown(rule.limit)} {unit} {rule.shown_window} ({left})"
