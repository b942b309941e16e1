"""Settles what a process had reserved that died while its requests ran: as used, since nobody knows better.

It is the message that the process itself would have sent, from its own name: what it held ends, and counts as used from
the admission on. Where the hold ended by itself meanwhile (20 s), only the use is added.
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
"""Of a counter: kind, units let go, units used, and at most four times."""


class OrphanSettlements:
    """Sends each settlement once, as far as it counts: the server remembers which it has taken."""

    def __init__(self, scripts: ScriptClient) -> None:
        self._scripts = scripts

    async def settle(self, event_id: str, settlement: object) -> bool:
        """Settle what `Admission.settlement` wrote down; False where all of it was settled before.

        Raises:
            LimiterUnavailable: Redis cannot be reached; send it again.
            ValueError: this is no settlement.
        """
        settled = False
        for keys, arguments in list(_calls(event_id, settlement)):
            try:
                settled |= await self._scripts.run(SETTLE_ONCE, keys, arguments) == 0
            except (RedisError, OSError, TimeoutError) as error:
                raise LimiterUnavailable("The rate limiter cannot be reached.", retry_after=1) from error
        return settled


def _calls(event_id: str, settlement: object) -> Iterable[tuple[list[str], list[str | int]]]:
    """Keys and arguments for each slot of a cluster."""
    if not isinstance(settlement, list):
        raise ValueError("a settlement is a list")
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
            raise ValueError("a part of a settlement has a holder, a time and counters")


def _counter(fields: Any) -> tuple[str, list[int]]:
    match fields:
        case [str(name), *numbers] if len(numbers) <= _MAX_NUMBERS and all(type(each) is int for each in numbers):
            return name, numbers
    raise ValueError("a counter of a settlement has a name and numbers")
