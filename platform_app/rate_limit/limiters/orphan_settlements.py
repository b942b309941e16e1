"""Settle the requests of a process that died while they ran. Their reserved units count as used, since the real use is
unknown.

This sends the settlement that the process itself would have sent, under its holder id: the reservations end, and the
units count as used from the admission on. If the reservations have expired meanwhile (20 s), only the use is added.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from redis.exceptions import RedisError

from platform_app.errors import LimiterUnavailable
from platform_app.rate_limit.limiters.redis import BUCKETS, RESERVATION_MS
from platform_app.rate_limit.limiters.scripts import SETTLE_ONCE
from platform_app.rate_limit.matching import hash_tag
from platform_app.redis.scripts import ScriptClient

_MAX_NUMBERS = 7
"""Most numbers of a counter: kind, units whose reservation ends, units used, and four times."""


class OrphanSettlements:
    """Sends settlements. Sending one twice has no effect: the server remembers each for seven days."""

    def __init__(self, scripts: ScriptClient) -> None:
        self._scripts = scripts

    async def settle(self, event_id: str, settlement: object) -> bool:
        """Send what `Admission.settlement` returned. Return False if all of it was settled before.

        Raises:
            LimiterUnavailable: Redis is unavailable; send the settlement again.
            ValueError: the settlement is malformed.
        """
        settled = False
        for keys, arguments in list(_calls(event_id, settlement)):
            try:
                settled |= await self._scripts.run(SETTLE_ONCE, keys, arguments) == 0
            except (RedisError, OSError, TimeoutError) as error:
                raise LimiterUnavailable(
                    "The rate limiter is unavailable right now. Try again shortly.", retry_after=1
                ) from error
        return settled


def _calls(event_id: str, settlement: object) -> Iterable[tuple[list[str], list[str | int]]]:
    """Return keys and arguments for each slot of a cluster."""
    if not isinstance(settlement, list):
        raise ValueError(f"a settlement must be a list, not {type(settlement).__name__}")
    for part in settlement:
        groups: dict[str, list[tuple[str, list[int]]]] = {}
        holder, at, counters = _fields(part)
        for counter, numbers in counters:
            groups.setdefault(hash_tag(counter), []).append((counter, numbers))
        for tag, group in groups.items():
            numbers = [number for _, each in group for number in each]
            keys = [*(counter for counter, _ in group), f"fbp:rl:{{{tag}}}:settled:{event_id}"]
            yield keys, [BUCKETS, holder, RESERVATION_MS, at, *numbers]


def _fields(part: object) -> tuple[str, int, list[tuple[str, list[int]]]]:
    match part:
        case {"holder": str(holder), "at": int(at), "counters": [_, *_] as counters} if isinstance(part, Mapping):
            return holder, at, [_counter(each) for each in counters]
        case _:
            raise ValueError("each part of a settlement must have a holder, a time and counters")


def _counter(fields: Any) -> tuple[str, list[int]]:
    match fields:
        case [str(name), *numbers] if len(numbers) <= _MAX_NUMBERS and all(type(each) is int for each in numbers):
            return name, numbers
    raise ValueError("each counter of a settlement must have a name and numbers")
