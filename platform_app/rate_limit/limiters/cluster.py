"""Limit on a cluster, where one script call reaches one slot. The caller's counters are in one slot and shared counters
in another, so a request takes at most two calls."""

import asyncio
from collections.abc import Mapping, Sequence

from platform_app.rate_limit.limiter import NOTHING_RESERVED, Admission, Decision, RuleState, Settlement
from platform_app.rate_limit.limiters.redis import RedisLimiter
from platform_app.rate_limit.matching import Charge, hash_tag


class ClusterLimiter:
    """Sends both calls concurrently. If one denies, the other's charges are undone. In between, another request may be
    denied that would have had room; no request is admitted beyond a limit."""

    def __init__(self, limiter: RedisLimiter) -> None:
        self._limiter = limiter

    async def acquire(self, charges: Sequence[Charge]) -> Decision:
        """See RateLimiter.acquire."""
        groups = _by_tag(charges)
        if len(groups) <= 1:
            return await self._limiter.acquire(charges)
        calls = (self._limiter.acquire([charges[index] for index in group]) for group in groups)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        decisions = [outcome for outcome in outcomes if isinstance(outcome, Decision)]
        denied = next((decision.denied_by for decision in decisions if decision.denied_by is not None), None)
        failure = next((outcome for outcome in outcomes if isinstance(outcome, BaseException)), None)
        if denied is not None or failure is not None:
            for group, outcome in zip(groups, outcomes, strict=True):
                if isinstance(outcome, Decision) and outcome.allowed:
                    self._limiter.undo([charges[index] for index in group], outcome)
        if failure is not None:
            raise failure
        states = _in_order(groups, [decision.states for decision in decisions])
        if denied is not None:
            return Decision(states, denied)
        return Decision(states, None, _combined([decision.admission for decision in decisions]))

    async def read(self, charges: Sequence[Charge]) -> tuple[RuleState, ...]:
        """See RateLimiter.read."""
        groups = _by_tag(charges)
        calls = (self._limiter.read([charges[index] for index in group]) for group in groups)
        return _in_order(groups, await asyncio.gather(*calls))

    async def aclose(self) -> None:
        """Close the limiter that it uses."""
        await self._limiter.aclose()


class _CombinedAdmission:
    """The admissions of a request's slots."""

    def __init__(self, admissions: Sequence[Admission]) -> None:
        self._admissions = admissions

    def settle(
        self, tokens: int | None, cost_microusd: int | None, assumed_costs: Mapping[str, int] | None = None
    ) -> None:
        """See Admission.settle."""
        for admission in self._admissions:
            admission.settle(tokens, cost_microusd, assumed_costs)

    def release(self) -> None:
        """See Admission.release."""
        for admission in self._admissions:
            admission.release()

    def settlement(self) -> Settlement:
        """See Admission.settlement."""
        return [call for admission in self._admissions for call in admission.settlement()]


def _combined(admissions: Sequence[Admission]) -> Admission:
    reserving = [admission for admission in admissions if admission is not NOTHING_RESERVED]
    if not reserving:
        return NOTHING_RESERVED
    return reserving[0] if len(reserving) == 1 else _CombinedAdmission(reserving)


def _by_tag(charges: Sequence[Charge]) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for index, charge in enumerate(charges):
        groups.setdefault(hash_tag(charge.counter), []).append(index)
    return list(groups.values())


def _in_order(groups: Sequence[Sequence[int]], found: Sequence[Sequence[RuleState]]) -> tuple[RuleState, ...]:
    """Return the states in the order of the charges."""
    by_index = {
        index: state
        for group, states in zip(groups, found, strict=True)
        for index, state in zip(group, states, strict=True)
    }
    return tuple(by_index[index] for index in sorted(by_index))
