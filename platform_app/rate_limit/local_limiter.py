"""The limiter of last resort: the same sliding window, counted in this process alone."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from platform_app.rate_limit.limiter import Decision, RuleState
from platform_app.rate_limit.rules import Charge

BUCKETS = 64
MAX_COUNTERS = 10_000


@dataclass(slots=True)
class _Counter:
    buckets: OrderedDict[int, int] = field(default_factory=OrderedDict)
    total: int = 0

    def drop_before(self, oldest_live: int) -> None:
        while self.buckets and (first := next(iter(self.buckets))) < oldest_live:
            self.total -= self.buckets.pop(first)


class LocalLimiter:
    """Allows this process `limit ÷ processes` of each rule (at least 1). Bounded: the least recently used
    counter is forgotten once there are 10,000."""

    def __init__(self, processes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._processes = processes
        self._clock = clock
        self._counters: OrderedDict[str, _Counter] = OrderedDict()

    async def acquire(self, charges: Sequence[Charge]) -> Decision:
        """See RateLimiter.acquire; never unavailable."""
        now = self._clock()
        counters = [self._counter(charge, now) for charge in charges]
        for index, (charge, counter) in enumerate(zip(charges, counters, strict=True)):
            if counter.total + charge.cost > self._share(charge):
                states = self._states(charges, counters, now)
                return Decision(states, states[index])
        for charge, counter in zip(charges, counters, strict=True):
            bucket = _bucket(charge, now)
            counter.buckets[bucket] = counter.buckets.get(bucket, 0) + charge.cost
            counter.total += charge.cost
        return Decision(self._states(charges, counters, now))

    def _share(self, charge: Charge) -> int:
        return max(1, charge.rule.limit // self._processes)

    def _counter(self, charge: Charge, now: float) -> _Counter:
        counter = self._counters.get(charge.counter)
        if counter is None:
            counter = self._counters[charge.counter] = _Counter()
            if len(self._counters) > MAX_COUNTERS:
                self._counters.popitem(last=False)
        self._counters.move_to_end(charge.counter)
        counter.drop_before(_bucket(charge, now) - BUCKETS)
        return counter

    def _states(self, charges: Sequence[Charge], counters: list[_Counter], now: float) -> tuple[RuleState, ...]:
        return tuple(
            RuleState(charge.rule, max(0, self._share(charge) - counter.total), self._reset(charge, counter, now))
            for charge, counter in zip(charges, counters, strict=True)
        )

    def _reset(self, charge: Charge, counter: _Counter, now: float) -> float:
        excess = counter.total + charge.cost - self._share(charge)
        for bucket, units in counter.buckets.items():
            excess -= units
            if excess <= 0:
                return (bucket + BUCKETS + 1) * charge.rule.window_seconds / BUCKETS - now
        return float(charge.rule.window_seconds)

    async def aclose(self) -> None:
        """Nothing to release."""


def _bucket(charge: Charge, now: float) -> int:
    return math.floor(now * BUCKETS / charge.rule.window_seconds)
