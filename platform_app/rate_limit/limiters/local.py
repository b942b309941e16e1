"""Limit in this process only, with the same rules: used while Redis is unavailable."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from platform_app.rate_limit.limiter import NOTHING_RESERVED, Admission, Decision, RuleState, Settlement
from platform_app.rate_limit.limiters.seeding import StaleBudgets
from platform_app.rate_limit.matching import Charge, cost_used
from platform_app.rate_limit.rule import Rule

BUCKETS = 64
MAX_COUNTERS = 10_000
RESERVED_WAIT_SECONDS = 1.0
"""The wait that is returned for reserved units, which return when their request ends, at an unknown time."""


@dataclass(slots=True)
class _Counter:
    """Used units by bucket of a window, or by the start of a calendar period; and reserved units."""

    buckets: OrderedDict[int, int] = field(default_factory=OrderedDict)
    total: int = 0
    reserved: int = 0

    @property
    def taken(self) -> int:
        return self.total + self.reserved

    def drop_before(self, oldest_live: int) -> None:
        while self.buckets and (first := next(iter(self.buckets))) < oldest_live:
            self.total -= self.buckets.pop(first)

    def use(self, bucket: int, units: int) -> None:
        late = bucket < next(reversed(self.buckets), bucket)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + units
        self.total += units
        if late:  # a request that was admitted before the latest one: keep the buckets in order
            self.buckets = OrderedDict(sorted(self.buckets.items()))


class LocalLimiter:
    """Allows `limit ÷ processes` of each rule, at least 1. Keeps at most 10,000 counters and evicts the least recently
    used one."""

    def __init__(
        self,
        processes: int,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        stale: StaleBudgets | None = None,
    ) -> None:
        """
        Args:
            processes: number of processes that share each limit.
            clock: monotonic clock, for windows.
            wall_clock: for calendars.
            stale: collects the budgets that are charged here, which Redis does not know.
        """
        self._stale = stale
        self._processes = processes
        self._clock = clock
        self._wall_clock = wall_clock
        self._counters: OrderedDict[str, _Counter] = OrderedDict()

    async def acquire(self, charges: Sequence[Charge]) -> Decision:
        """See RateLimiter.acquire; never raises LimiterUnavailable."""
        counters = [self._counter(charge) for charge in charges]
        fits = [
            counter.taken + charge.units <= self._share(charge.rule)
            for charge, counter in zip(charges, counters, strict=True)
        ]
        for index, charge in enumerate(charges):
            if not fits[index] and not charge.rule.shadow:
                states = self._states(charges, counters, [True] * len(charges), denied=True)
                return Decision(states, states[index])
        reserved = [
            _Reservation(charge, counter, self._bucket(charge.rule), self._stale)
            for charge, counter, fit in zip(charges, counters, fits, strict=True)
            if fit and charge.rule.reserves
        ]
        for each in reserved:
            each.counter.reserved += each.charge.units
        for charge, counter, fit in zip(charges, counters, fits, strict=True):
            if fit and not charge.rule.reserves:
                counter.use(self._bucket(charge.rule), charge.units)
        admission: Admission = LocalAdmission(reserved) if reserved else NOTHING_RESERVED
        return Decision(self._states(charges, counters, fits), None, admission)

    async def read(self, charges: Sequence[Charge]) -> tuple[RuleState, ...]:
        """See RateLimiter.read; never raises LimiterUnavailable."""
        counters = [self._counter(charge) for charge in charges]
        return self._states(charges, counters, [True] * len(charges))

    async def aclose(self) -> None:
        """Do nothing: there are no connections."""

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
        """Return the number of a window's bucket, the start of a calendar period, or 0."""
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
        """Return the seconds until some used units return."""
        if not counter.taken:
            return 0.0
        if rule.window_seconds is None:
            return self._until_period_ends(rule)
        return self._until_ended(rule.window_seconds, next(iter(counter.buckets), self._bucket(rule)))

    def _until_fits(self, charge: Charge, counter: _Counter) -> float:
        """Return the seconds until the request fits. If only reserved units are in the way, it may fit soon."""
        rule, share = charge.rule, self._share(charge.rule)
        if counter.total + charge.units <= share:
            return RESERVED_WAIT_SECONDS
        if rule.window_seconds is None:
            return self._until_period_ends(rule)
        excess = counter.taken + charge.units - share
        for bucket, units in counter.buckets.items():
            excess -= units
            if excess <= 0:
                return self._until_ended(rule.window_seconds, bucket)
        return float(rule.window_seconds)

    def _until_ended(self, window_seconds: int, bucket: int) -> float:
        return (bucket + BUCKETS + 1) * window_seconds / BUCKETS - self._clock()

    def _until_period_ends(self, rule: Rule) -> float:
        if rule.calendar is None:
            return RESERVED_WAIT_SECONDS
        now = self._wall_clock()
        return rule.calendar.around(now)[2] / 1e6 - now


@dataclass(frozen=True, slots=True)
class _Reservation:
    charge: Charge
    counter: _Counter
    bucket: int
    """The bucket of the admission, in which the used units will count."""
    stale: StaleBudgets | None = None


class LocalAdmission:
    """See Admission."""

    __slots__ = ("_reserved",)

    def __init__(self, reserved: Sequence[_Reservation]) -> None:
        self._reserved = reserved

    def settle(
        self, tokens: int | None, cost_microusd: int | None, assumed_costs: Mapping[str, int] | None = None
    ) -> None:
        """See Admission.settle."""
        reserved, self._reserved = self._reserved, ()
        for each in reserved:
            each.counter.reserved -= each.charge.units
            rule = each.charge.rule
            match rule.unit:
                case "tokens":
                    used = each.charge.units if tokens is None else tokens
                case "cost_usd":
                    used = cost_used(each.charge, cost_microusd, assumed_costs)
                case _:
                    used = 0
            if units := max(0, used):
                each.counter.use(each.bucket, units)
                if each.stale is not None and rule.calendar is not None:
                    each.stale.add(each.charge.counter)

    def release(self) -> None:
        """See Admission.release."""
        self.settle(0, 0)

    def settlement(self) -> Settlement:
        """See Admission.settlement. Nothing: the counters end with this process."""
        return ()

    def __del__(self) -> None:
        self.settle(None, None)
