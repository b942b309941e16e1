"""Tokens, costs and concurrent requests on a real server: reserved at admission, settled with what was used."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from platform_app.rate_limit.limiter import NOTHING_RESERVED, Admission
from platform_app.rate_limit.limiters.redis import BUCKETS, RedisLimiter
from platform_app.rate_limit.matching import Charge
from platform_app.rate_limit.rule import Kind, Rule
from platform_app.redis.client import PipelinedRedis
from tests.support.fakes.core import Count
from tests.support.limits.limiter import (
    SECOND,
    TimedScripts,
    admit,
    charge,
    cheaper,
    cost,
    lease,
    remaining,
    settled,
    tokens,
)

DAY = 86_400 * SECOND


@dataclass
class Model:
    """Remembers every request: what it reserved until it ended, and from then on what it used, at its admission."""

    taken: list[tuple[Charge, int, list[int]]] = field(default_factory=list)
    """With the time of admission, and what was used once that is known."""

    def counted(self, each: Charge, now: int) -> int:
        return sum(
            (used[0] if self.live(each, at, now) else 0) if used else taken.units
            for taken, at, used in self.taken
            if taken.counter == each.counter
        )

    def live(self, each: Charge, at: int, now: int) -> bool:
        if each.rule.window_seconds is None:
            return each.rule.calendar is not None and at // DAY == now // DAY
        width = -(-each.rule.window_seconds * SECOND // BUCKETS)
        return now // width - at // width <= BUCKETS

    def acquire(self, charges: list[Charge], now: int) -> list[list[int]] | None:
        if any(self.counted(each, now) + each.units > each.rule.limit for each in charges):
            return None
        ends: list[list[int]] = [[each.units] if each.rule.kind is Kind.SLIDING_WINDOW else [] for each in charges]
        self.taken += zip(charges, [now] * len(charges), ends, strict=True)
        return ends


RULES: tuple[Callable[..., Charge], ...] = (charge, tokens, cost, lease)

WAITS = st.one_of(
    st.just(0), st.integers(0, 2 * SECOND), st.integers(0, 90 * SECOND), st.integers(0, 2 * DAY),
    st.integers(0, 70).map(lambda buckets: buckets * 60 * SECOND // BUCKETS),
)  # fmt: skip

ASKS = st.dictionaries(st.integers(0, 3), st.integers(0, 7), min_size=1, max_size=4)

ENDS = st.tuples(st.integers(0, 9), st.integers(0, 12) | st.none())

STEPS = st.lists(st.tuples(WAITS, ASKS | ENDS), min_size=5, max_size=50)


@settings(
    max_examples=120, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(limits=st.tuples(*[st.integers(1, 20)] * 4), steps=STEPS)
async def test_reservations_match_a_model_of_every_request(
    timed: TimedScripts, redis: "Redis", limits: tuple[int, ...], steps: list[tuple[int, object]]
) -> None:
    """All four kinds in any mix, with pauses, and settlements of more, less or unknown use."""
    limiter, model = RedisLimiter(timed), Model()
    counters = [make(limit=limit) for make, limit in zip(RULES, limits, strict=True)]
    running: list[tuple[Admission, list[Charge], list[list[int]]]] = []
    for wait, action in steps:
        timed.now += wait
        if isinstance(action, dict):
            charges = [
                cheaper(counters[index], 1 if counters[index].rule.kind is Kind.CONCURRENCY else units)
                for index, units in action.items()
            ]
            admission, ends = await admit(limiter, *charges), model.acquire(charges, timed.now)
            assert (admission is not None) == (ends is not None)
            if admission is not None and ends is not None:
                running.append((admission, charges, ends))
        elif isinstance(action, tuple) and running:
            admission, charges, ends = running.pop(action[0] % len(running))
            admission.settle(action[1], action[1])
            await settled(limiter)
            for each, end in zip(charges, ends, strict=True):
                if each.rule.kind is not Kind.SLIDING_WINDOW:
                    is_lease = each.rule.kind is Kind.CONCURRENCY
                    end.append(0 if is_lease else each.units if action[1] is None else action[1])
        known = [limiter._reservations.known(each.counter) for each in counters]
        if timed.now and not any(known):  # else the server may have let holds end, of which only this process knows
            assert await remaining(limiter, *counters) == [
                max(0, each.rule.limit - model.counted(each, timed.now)) for each in counters
            ]
    for admission, _, _ in running:
        admission.release()
    await settled(limiter)
    await redis.delete(*(each.counter for each in counters))


async def test_settlement_replaces_reservation_with_use(scripts: PipelinedRedis) -> None:
    limiter, each, budget = RedisLimiter(scripts), tokens(limit=1000, units=400), cost(limit=1000, units=300)
    first, second = await admit(limiter, each, budget), await admit(limiter, each, budget)
    assert first is not None
    assert second is not None
    assert await remaining(limiter, each, budget) == [200, 400]
    assert await admit(limiter, each, budget) is None
    first.settle(150, 70)
    first.settle(999, 999)  # only the first call counts
    await settled(limiter)
    assert await remaining(limiter, each, budget) == [450, 630]
    second.settle(None, None)  # unknown use: all of it counts
    await settled(limiter)
    assert await remaining(limiter, each, budget) == [450, 630]
    third = await admit(limiter, each, budget)
    assert third is not None
    third.release()
    await settled(limiter)
    assert await remaining(limiter, each, budget) == [450, 630]


async def test_use_above_reservation_counts_in_full(scripts: PipelinedRedis) -> None:
    limiter, each = RedisLimiter(scripts), tokens(limit=1000, units=100)
    admission = await admit(limiter, each)
    assert admission is not None
    admission.settle(1500, None)
    await settled(limiter)
    assert await remaining(limiter, each) == [0]
    assert await admit(limiter, cheaper(each, 1)) is None


async def test_next_request_sees_unawaited_settlement(scripts: PipelinedRedis) -> None:
    limiter, each = RedisLimiter(scripts), tokens(limit=1000, units=1000)
    for _ in range(50):
        admission = await admit(limiter, each)
        assert admission is not None
        admission.settle(0, None)
        await asyncio.sleep(0)


async def test_rules_for_requests_reserve_nothing(scripts: PipelinedRedis) -> None:
    assert await admit(RedisLimiter(scripts), charge(), charge()) is NOTHING_RESERVED


async def test_used_units_count_from_admission(timed: TimedScripts) -> None:
    """A stream of 50 s that ends now leaves the window with the requests that began with it."""
    limiter, each = RedisLimiter(timed), tokens(limit=1000, window=60, units=600)
    admission = await admit(limiter, each)
    assert admission is not None
    timed.advance(50)
    admission.settle(600, None)
    await settled(limiter)
    assert await remaining(limiter, each) == [400]
    timed.advance(11)
    assert await remaining(limiter, each) == [1000]


async def test_budget_restarts_with_the_day(timed: TimedScripts) -> None:
    limiter, each = RedisLimiter(timed), cost(limit=1000, units=700, zone="Pacific/Auckland")
    admission = await admit(limiter, each)
    assert admission is not None
    admission.settle(None, 700)
    await settled(limiter)
    decision = await limiter.acquire([each])
    assert decision.denied_by is not None
    wait = decision.denied_by.reset_seconds
    assert 0 < wait <= 25 * 3600
    timed.advance(wait - 1)
    assert await admit(limiter, each) is None
    timed.advance(2)
    late = await admit(limiter, each)
    assert late is not None
    timed.advance(86_400 * 3)
    late.settle(None, 700)  # its day is over
    await settled(limiter)
    assert await remaining(limiter, each) == [1000]


async def test_denial_returns_wait_of_its_kind(timed: TimedScripts) -> None:
    limiter, each, slot = RedisLimiter(timed), tokens(limit=1000, units=600), lease(limit=1)
    admission = await admit(limiter, each, slot)
    assert admission is not None
    held = await limiter.acquire([each])
    assert held.denied_by is not None
    assert held.denied_by.reset_seconds == 1, "only what runs is in the way"
    full = await limiter.acquire([slot])
    assert full.denied_by is not None
    assert full.denied_by.reset_seconds == 1
    admission.settle(600, None)
    await settled(limiter)
    used = await limiter.acquire([each])
    assert used.denied_by is not None
    assert 59 < used.denied_by.reset_seconds <= 61


async def test_settlements_are_bounded(scripts: PipelinedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform_app.rate_limit.limiters.redis.MAX_SETTLING", 3)
    limiter, slot, dropped = (
        RedisLimiter(scripts),
        lease(),
        Count("platform_limiter_settlements_total", outcome="dropped"),
    )
    admissions = [await admit(limiter, slot) for _ in range(5)]
    for admission in admissions:
        assert admission is not None
        admission.release()
    assert dropped.grown == 2
    await settled(limiter)


@pytest.mark.parametrize("make", [charge, tokens, cost, lease])
async def test_shadow_rule_counts_and_denies_no_request(scripts: PipelinedRedis, make: object) -> None:
    assert callable(make)
    each = make(limit=3)
    shadow = Charge(_in_shadow(each.rule), each.counter, 1)
    limiter, enforced = RedisLimiter(scripts), charge(limit=5)
    kept, over = [], []
    for _ in range(7):
        decision = await limiter.acquire([shadow, enforced])
        kept.append(decision.admission)
        over.append((decision.allowed, decision.states[0].shadow_denied, decision.states[0].remaining))
    assert over == [
        (True, False, 2), (True, False, 1), (True, False, 0), (True, True, 0), (True, True, 0),
        (False, True, 0), (False, True, 0),
    ]  # fmt: skip


def _in_shadow(of: Rule) -> Rule:
    return Rule(of.name, of.scope, of.unit, of.limit, of.kind, of.window_seconds, of.calendar, shadow=True)


async def test_memory_depends_on_processes_not_on_limit(
    scripts: PipelinedRedis, redis: "Redis", show_figure: Callable[[str], None]
) -> None:
    usage: dict[str, dict[int, int]] = {}
    fields: dict[str, dict[int, int]] = {}
    kept = []
    limiters = []
    for make in (tokens, cost, lease):
        for limit in (60, 1_000_000):
            each = make(limit=limit)
            for _ in range(4):  # processes
                limiters.append(limiter := RedisLimiter(scripts))
                kept += [await admit(limiter, cheaper(each, 1)) for _ in range(15)]
            used = await redis.memory_usage(each.counter)
            usage.setdefault(each.rule.unit, {})[limit] = used or 0
            fields.setdefault(each.rule.unit, {})[limit] = await redis.hlen(each.counter)
    for admission in kept:
        assert admission is not None
        admission.release()
    for limiter in limiters:
        await settled(limiter)
    show_figure(f"bytes per counter with 4 processes that hold 60 units, by limit: {usage}")
    for unit, by_limit in usage.items():
        assert fields[unit][60] == fields[unit][1_000_000]
        # Names and times differ by a digit, and the server's allocator rounds up, here by steps of 32 and 64 bytes.
        assert abs(by_limit[60] - by_limit[1_000_000]) <= 64
        assert 0 < max(by_limit.values()) < 2048
