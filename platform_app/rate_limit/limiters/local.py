"""The limiter of last resort: the same rules, counted in this process alone."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from platform_app.rate_limit.limiter import NOTHING_RESERVED, Admission, Decision, RuleState, Settlement
from platform_app.rate_limit.limiters.seeding import StaleBudgets
from platform_app.rate_limit.matching import Charge
from platform_app.rate_limit.rule import Rule

BUCKETS = 64
MAX_COUNTERS = 10_000
RESERVED_WAIT_SECONDS = 1.0
"""What is held comes back when its request ends, which nobody knows."""


@dataclass(slots=True)
class _Counter:
    """What was used, by bucket of a window or by the start of a calendar period; and what is held."""

    buckets: OrderedDict[int, int] = field(default_factory=OrderedDict)
    total: int = 0
    held: int = 0

    @property
    def taken(self) -> int:
        return self.total + self.held

    def drop_before(self, oldest_live: int) -> None:
        while self.buckets and (first := next(iter(self.buckets))) < oldest_live:
            self.total -= self.buckets.pop(first)

    def use(self, bucket: int, units: int) -> None:
        if bucket not in self.buckets and self.buckets and bucket < next(reversed(self.buckets)):
            # Of a request that began before the latest one: kept in order, oldest first.
            self.buckets = OrderedDict(sorted([*self.buckets.items(), (bucket, 0)]))
        self.buckets[bucket] = self.buckets.get(bucket, 0) + units
        self.total += units


class LocalLimiter:
    """Allows this process `limit ÷ processes` of each rule (at least 1). Bounded: the least recently used
    counter is forgotten once there are 10,000."""

    def __init__(
        self,
        processes: int,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        stale: StaleBudgets | None = None,
    ) -> None:
        """
        Args:
            processes: how many share each limit.
            clock: for windows.
            wall_clock: for calendars.
            stale: is told which budgets were charged here, since Redis does not know of it.
        """
        self._stale = stale
        self._processes = processes
        self._clock = clock
        self._wall_clock = wall_clock
        self._counters: OrderedDict[str, _Counter] = OrderedDict()

    async def acquire(self, charges: Sequence[Charge]) -> Decision:
        """See RateLimiter.acquire; never unavailable."""
        counters = [self._counter(charge) for charge in charges]
        fits = [
            counter.taken + charge.units <= self._share(charge.rule)
            for charge, counter in zip(charges, counters, strict=True)
        ]
        for index, charge in enumerate(charges):
            if not fits[index] and not charge.rule.shadow:
                states = self._states(charges, counters, [True] * len(charges), denied=True)
                return Decision(states, states[index])
        held = [
            _Held(charge, counter, self._bucket(charge.rule), self._stale)
            for charge, counter, fit in zip(charges, counters, fits, strict=True)
            if fit and charge.rule.reserves
        ]
        for each in held:
            each.counter.held += each.charge.units
        for charge, counter, fit in zip(charges, counters, fits, strict=True):
            if fit and not charge.rule.reserves:
                counter.use(self._bucket(charge.rule), charge.units)
        admission: Admission = LocalAdmission(held) if held else NOTHING_RESERVED
        return Decision(self._states(charges, counters, fits), None, admission)

    async def read(self, charges: Sequence[Charge]) -> tuple[RuleState, ...]:
        """See RateLimiter.read; never unavailable."""
        counters = [self._counter(charge) for charge in charges]
        return self._states(charges, counters, [True] * len(charges))

    async def aclose(self) -> None:
        """Nothing to release."""

    def _share(self, rule: Rule) -> int:
        return max(1, rule.limit // self._processes)

    def _counter(self, charge: Charge) -> _Counter:
        counter = self._counters.get(charge.counter)
        if counter is None:
            counter = self._counters[charge.counter] = _Counter()
            if len(self._counters) > MAX_COUNTERS:
                self._counters.popitem(last=False)
        self._counters.move_to_end(charge.counter)
        bucket = self._bucket(charge.rule)
        counter.drop_before(bucket - BUCKETS if charge.rule.window_seconds else bucket)
        return counter

    def _bucket(self, rule: Rule) -> int:
        """The number of a window's bucket, the start of a calendar period, or 0."""
        if rule.window_seconds is not None:
            return math.floor(self._clock() * BUCKETS / rule.window_seconds)
        return rule.calendar.around(self._wall_clock())[1] if rule.calendar is not None else 0

    def _states(
        self, charges: Sequence[Charge], counters: list[_Counter], fits: list[bool], *, denied: bool = False
    ) -> tuple[RuleState, ...]:
        return tuple(
            RuleState(
                charge.rule,
                max(0, self._share(charge.rule) - counter.taken),
                self._until_fits(charge, counter) if denied else self._until_more(charge.rule, counter),
                not fit,
            )
            for charge, counter, fit in zip(charges, counters, fits, strict=True)
        )

    def _until_more(self, rule: Rule, counter: _Counter) -> float:
        """Seconds until some of what is used comes back."""
        if not counter.taken:
            return 0.0
        if rule.window_seconds is None:
            return self._until_period_ends(rule)
        return self._until_ended(rule, next(iter(counter.buckets), self._bucket(rule)))

    def _until_fits(self, charge: Charge, counter: _Counter) -> float:
        """Seconds until the request fits; it may be soon where only what is held is in the way."""
        rule, share = charge.rule, self._share(charge.rule)
        if counter.total + charge.units <= share:
            return RESERVED_WAIT_SECONDS
        if rule.window_seconds is None:
            return self._until_period_ends(rule)
        excess = counter.taken + charge.units - share
        for bucket, units in counter.buckets.items():
            excess -= units
            if excess <= 0:
                return self._until_ended(rule, bucket)
        return float(rule.window_seconds)

    def _until_ended(self, rule: Rule, bucket: int) -> float:
        return (bucket + BUCKETS + 1) * (rule.window_seconds or 0) / BUCKETS - self._clock()

    def _until_period_ends(self, rule: Rule) -> float:
        if rule.calendar is None:
            return RESERVED_WAIT_SECONDS
        now = self._wall_clock()
        return rule.calendar.around(now)[2] / 1e6 - now


@dataclass(frozen=True, slots=True)
class _Held:
    charge: Charge
    counter: _Counter
    bucket: int
    """Of its admission, in which its use will count."""
    stale: StaleBudgets | None = None


class LocalAdmission:
    """See Admission."""

    __slots__ = ("_held",)

    def __init__(self, held: Sequence[_Held]) -> None:
        self._held = held

    def settle(
        self, tokens: int | None, cost_microusd: int | None, assumed_costs: Mapping[str, int] | None = None
    ) -> None:
        """See Admission.settle."""
        held, self._held = self._held, ()
        for each in held:
            each.counter.held -= each.charge.units
            rule = each.charge.rule
            used = {"tokens": tokens, "cost_usd": cost_microusd}.get(rule.unit, 0)
            if used is None and assumed_costs and rule.unit == "cost_usd":
                used = assumed_costs.get(rule.name)
            if units := each.charge.units if used is None else max(0, used):
                each.counter.use(each.bucket, units)
                if each.stale is not None and rule.calendar is not None:
                    each.stale.add(each.charge.counter)

    def release(self) -> None:
        """See Admission.release."""
        self.settle(0, 0)

    def settlement(self) -> Settlement:
        """See Admission.settlement: the counters end with the process."""
        return ()

    def __del__(self) -> None:
        self.settle(None, None)
