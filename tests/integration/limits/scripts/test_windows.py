"""Sliding windows on a real server: against a model that remembers every unit, and at the edges."""

import asyncio
import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from platform_app.rate_limit.limiters.redis import BUCKETS, RedisLimiter
from platform_app.rate_limit.limiters.scripts import ALL
from platform_app.rate_limit.matching import Charge
from platform_app.redis.client import PipelinedRedis
from tests.support.limits.limiter import (
    CLOCK_CALL,
    NOW_MS,
    SECOND,
    TimedScripts,
    charge,
    on_test_clock,
)


class TimedLimiter(RedisLimiter):
    """The same scripts with the test's clock (in microseconds) in place of the server's."""

    def __init__(self, client: PipelinedRedis) -> None:
        self._timed = TimedScripts(client)
        super().__init__(self._timed)

    @property
    def now(self) -> int:
        return self._timed.now

    @now.setter
    def now(self, now: int) -> None:
        self._timed.now = now


def test_patched_scripts_have_no_real_clock() -> None:
    for script in ALL:
        assert script.text.count(CLOCK_CALL) == 1
        assert script.text.count(NOW_MS) == 1
        patched = on_test_clock(script.text)
        assert re.findall(r"'(TIME|P?EXPIRE(?:AT)?|P?TTL)'", patched) == []
        for name, own in (("PEXPIRE", "ZADD"), ("PTTL", "ZSCORE")):
            assert patched.count(f"call('{own}', lifetimes, ") == script.text.count(f"call('{name}', ")


def width_of(each: Charge) -> int:
    """A bucket's width in microseconds."""
    return math.ceil((each.rule.window_seconds or 0) * SECOND / BUCKETS)


@dataclass
class Model:
    """Remembers every unit. A unit counts from its bucket on for 64 whole buckets."""

    taken: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def used(self, each: Charge, now: int) -> int:
        width = width_of(each)
        return sum(cost for at, cost in self.taken.get(each.counter, []) if now // width - at // width <= BUCKETS)

    def within_window(self, each: Charge, now: int) -> int:
        start = now - (each.rule.window_seconds or 0) * SECOND
        return sum(cost for at, cost in self.taken.get(each.counter, []) if at > start)

    def acquire(self, charges: list[Charge], now: int) -> tuple[int | None, list[int]]:
        """The index of the rule that denies, if one does, and what remains of each."""
        denier = next(
            (i for i, each in enumerate(charges) if self.used(each, now) + each.units > each.rule.limit), None
        )
        if denier is None:
            for each in charges:
                self.taken.setdefault(each.counter, []).append((now, each.units))
        return denier, [max(0, each.rule.limit - self.used(each, now)) for each in charges]

    def wait(self, each: Charge, now: int) -> int | None:
        """The least number of microseconds after which `each` fits; None: it never does."""
        width = width_of(each)
        ends = [(at // width + BUCKETS + 1) * width for at, _ in self.taken.get(each.counter, [])]
        return next((e - now for e in sorted(ends) if self.used(each, e) + each.units <= each.rule.limit), None)


@dataclass(frozen=True)
class Step:
    wait: int
    picks: dict[int, int]
    """Cost by rule."""


RULES = st.lists(st.tuples(st.integers(1, 12), st.sampled_from([60, 100, 3600])), min_size=1, max_size=4)

WAITS = st.one_of(
    st.just(0),
    st.integers(0, 2 * SECOND),
    st.integers(0, 140).map(lambda buckets: buckets * 60 * SECOND // BUCKETS),
    st.integers(0, 120 * SECOND),
    st.integers(0, 5000 * SECOND),
)

STEPS = st.lists(
    st.builds(Step, WAITS, st.dictionaries(st.integers(0, 3), st.integers(1, 4), min_size=1, max_size=4)),
    min_size=5,
    max_size=60,
)


@settings(
    max_examples=150, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(rules=RULES, steps=STEPS, phase=st.integers(0, SECOND))
async def test_windows_match_a_model_of_every_unit(
    scripts: PipelinedRedis, redis: "Redis", rules: list[tuple[int, int]], steps: list[Step], phase: int
) -> None:
    """Several rules and costs, any pauses; the server expires idle counters on the test's clock."""
    limiter, model = TimedLimiter(scripts), Model()
    limiter.now += phase
    counters = [charge(limit=limit, window=window) for limit, window in rules]
    for step in steps:
        limiter.now += step.wait
        picks = {index % len(rules): cost for index, cost in step.picks.items()}
        charges = [Charge(counters[i].rule, counters[i].counter, cost) for i, cost in picks.items()]

        before = [model.within_window(each, limiter.now) for each in charges]
        waits = [model.wait(each, limiter.now) for each in charges]
        decision = await limiter.acquire(charges)
        denier, remaining = model.acquire(charges, limiter.now)

        assert [state.remaining for state in decision.states] == remaining
        if denier is None:
            assert decision.allowed
            for each, used in zip(charges, before, strict=True):
                assert used + each.units <= each.rule.limit, "more than the limit in a window"
        else:
            assert decision.denied_by is decision.states[denier]
            wait = waits[denier]
            if wait is not None:
                assert round(decision.denied_by.reset_seconds * SECOND) == wait
    await redis.delete(*(each.counter for each in counters))


async def test_denied_by_one_rule_charges_none(scripts: PipelinedRedis) -> None:
    limiter = RedisLimiter(scripts)
    wide, narrow, other = charge(limit=9), charge(limit=2), charge(limit=9)
    outcomes = [await limiter.acquire([wide, narrow, other]) for _ in range(20)]
    assert [outcome.allowed for outcome in outcomes] == [True] * 2 + [False] * 18
    assert outcomes[-1].denied_by is outcomes[-1].states[1]
    assert [state.remaining for state in outcomes[-1].states] == [7, 0, 7]
    assert (await limiter.acquire([wide])).states[0].remaining == 6


async def test_units_above_limit_are_denied_and_not_charged(scripts: PipelinedRedis) -> None:
    limiter = RedisLimiter(scripts)
    each = charge(limit=5)
    too_much = Charge(each.rule, each.counter, 6)
    decision = await limiter.acquire([too_much])
    assert decision.denied_by is not None
    # It never fits: the wait is the longest time for which any unit counts.
    assert round(decision.denied_by.reset_seconds * SECOND) == width_of(each) * (BUCKETS + 1)
    assert (await limiter.acquire([each])).states[0].remaining == 4


async def test_request_without_rules_is_allowed(scripts: PipelinedRedis) -> None:
    assert (await RedisLimiter(scripts).acquire([])).allowed


async def test_counter_after_a_window_of_denials_works(scripts: PipelinedRedis) -> None:
    """Its units ended at a denied request, so at the next one there is nothing left to drop."""
    limiter, each = TimedLimiter(scripts), charge(limit=3)
    too_much = Charge(each.rule, each.counter, 4)
    assert (await limiter.acquire([each])).allowed
    for _ in range(3):
        limiter.now += 120 * SECOND
        assert not (await limiter.acquire([too_much])).allowed
    assert (await limiter.acquire([each])).states[0].remaining == 2


async def test_client_slightly_below_limit_is_never_denied(scripts: PipelinedRedis) -> None:
    limiter, each = TimedLimiter(scripts), charge(limit=200, window=60)
    spacing = math.ceil(60 * SECOND / 200 * (BUCKETS + 1) / BUCKETS)
    for _ in range(900):  # four and a half windows
        limiter.now += spacing
        assert (await limiter.acquire([each])).allowed


async def test_steady_pressure_loses_at_most_a_sixty_fourth(scripts: PipelinedRedis) -> None:
    limiter, each = TimedLimiter(scripts), charge(limit=100, window=60)
    allowed: list[int] = []
    for _ in range(5 * 300):  # five windows at three times the limit
        limiter.now += 60 * SECOND // 300
        if (await limiter.acquire([each])).allowed:
            allowed.append(limiter.now)
    for first, last in itertools.pairwise(allowed[index] for index in range(0, len(allowed), 100)):
        assert last - first >= 60 * SECOND, "more than the limit in a window"
        assert last - first <= 60 * SECOND * (1 + 1 / BUCKETS) + 60 * SECOND // 300
    assert len(allowed) >= 5 * 100 * BUCKETS / (BUCKETS + 1) - 1


async def test_unpatched_script_matches_model(scripts: PipelinedRedis, redis: "Redis") -> None:
    """The real script, hammered for two windows, decides as the model does at the server's own times."""
    limiter, model, each = RedisLimiter(scripts), Model(), charge(limit=20, window=1)
    allowed, denials = 0, 0
    while allowed <= 2 * each.rule.limit:
        earliest, decision, latest = await redis.time(), await limiter.acquire([each]), await redis.time()
        now = decision.at_microseconds
        assert microseconds(earliest) <= now <= microseconds(latest)
        wait = model.wait(each, now)
        assert decision.allowed == (model.acquire([each], now)[0] is None)
        if decision.allowed:
            allowed += 1
        else:
            denials += 1
            assert decision.denied_by is not None
            assert round(decision.denied_by.reset_seconds * SECOND) == wait
            await asyncio.sleep(0.003)
    assert denials > 0


def microseconds(time: tuple[int, int]) -> int:
    return time[0] * SECOND + time[1]


async def test_request_fits_exactly_at_reset(scripts: PipelinedRedis) -> None:
    limiter, each = TimedLimiter(scripts), charge(limit=3, window=1)
    assert [(await limiter.acquire([each])).allowed for _ in range(4)] == [True, True, True, False]
    denied = (await limiter.acquire([each])).denied_by
    assert denied is not None
    limiter.now += round(denied.reset_seconds * SECOND) - 1
    assert not (await limiter.acquire([each])).allowed
    limiter.now += 1
    assert (await limiter.acquire([each])).allowed


@pytest.mark.parametrize("back", [1, 30, 3600])
async def test_clock_set_back_never_exceeds_limit(scripts: PipelinedRedis, back: int) -> None:
    limiter, each = TimedLimiter(scripts), charge(limit=10, window=60)
    true_times: list[int] = []
    true_now = 0

    async def ask(count: int) -> int:
        allowed = [(await limiter.acquire([each])).allowed for _ in range(count)].count(True)
        true_times.extend([true_now] * allowed)
        return allowed

    def advance(seconds: float) -> None:
        nonlocal true_now
        limiter.now += round(seconds * SECOND)
        true_now += round(seconds * SECOND)

    await ask(4)
    advance(20)
    await ask(3)
    limiter.now -= back * SECOND
    assert await ask(10) == 3, "what was used before still counts"
    for _ in range(200):
        advance(1)
        await ask(2)
    for early, late in zip(true_times, true_times[10:], strict=False):
        assert late - early >= 60 * SECOND, "more than the limit in a window of true time"
    denied = (await limiter.acquire([each])).denied_by
    if denied is not None:  # the returned wait is correct
        limiter.now += round(denied.reset_seconds * SECOND)
    assert (await limiter.acquire([each])).allowed
    # At the latest when the clock has made up for it, all is as ever.
    limiter.now += (back + 62) * SECOND
    assert await ask(12) == 10


async def test_idle_counter_expires_on_server(scripts: PipelinedRedis, redis: "Redis") -> None:
    """On the server's own clock; test_limiter_lifetimes.py has the exact lifetimes."""
    each, an_hour = charge(limit=3, window=3600), 3_600_000
    await RedisLimiter(scripts).acquire([each])
    assert an_hour < await redis.pttl(each.counter) <= an_hour * (BUCKETS + 2) / BUCKETS + 1
    denied = charge(limit=1, window=60)
    await RedisLimiter(scripts).acquire([Charge(denied.rule, denied.counter, 5)])
    assert await redis.exists(denied.counter) == 0, "a denial leaves nothing behind"


async def test_memory_does_not_depend_on_the_limit(
    scripts: PipelinedRedis, redis: "Redis", show_figure: Callable[[str], None]
) -> None:
    usage: dict[int, int] = {}
    for limit in (60, 1_000_000):
        limiter, each = TimedLimiter(scripts), charge(limit=limit, window=3600)
        width = math.ceil(3600 * SECOND / BUCKETS)
        for _ in range(4 * BUCKETS):  # four windows, as many buckets and as full as the limit allows
            limiter.now += width
            await limiter.acquire([Charge(each.rule, each.counter, max(1, limit // (BUCKETS + 1)))])
        fields = await redis.hgetall(each.counter)
        assert 60 <= len(fields) <= BUCKETS + 4
        usage[limit] = await redis.memory_usage(each.counter) or 0
    show_figure(f"bytes per counter after heavy use, by limit: {usage}")
    assert 0 < min(usage.values()) <= max(usage.values()) < 2048
    # As many fields; only the numbers in them have more digits.
    assert usage[1_000_000] <= usage[60] * 1.5
