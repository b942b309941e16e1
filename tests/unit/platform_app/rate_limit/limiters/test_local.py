"""The limiter of last resort: what a process allows by itself."""

import pytest

from platform_app.rate_limit.limiters import local as local_limiter
from platform_app.rate_limit.limiters.local import BUCKETS, RESERVED_WAIT_SECONDS, LocalLimiter
from platform_app.rate_limit.matching import Charge
from platform_app.rate_limit.rule import Rule
from tests.support.fakes.core import FakeClock
from tests.support.limits.limiter import cost, lease, tokens

EARLY = 1 / BUCKETS
"""The part of a window by which a unit may count too long."""


def charge(counter: str = "c", *, limit: int = 10, window: int = 60, units: int = 1) -> Charge:
    return Charge(Rule("r", "key", "requests", limit, window_seconds=window), counter, units)


@pytest.mark.parametrize("phase", range(BUCKETS))
async def test_unit_counts_for_a_whole_window(phase: int) -> None:
    clock = FakeClock(6000 + phase / BUCKETS * 60 / BUCKETS)
    limiter = LocalLimiter(1, clock)
    assert (await limiter.acquire([charge(limit=1)])).allowed
    clock.advance(60 - 0.001)
    assert not (await limiter.acquire([charge(limit=1)])).allowed
    clock.advance(60 * EARLY + 0.002)
    assert (await limiter.acquire([charge(limit=1)])).allowed


async def test_denied_by_one_rule_charges_none() -> None:
    limiter = LocalLimiter(1, FakeClock())
    wide, narrow = charge("wide", limit=5), charge("narrow", limit=1)
    assert (await limiter.acquire([wide, narrow])).allowed
    for _ in range(10):
        decision = await limiter.acquire([wide, narrow])
        assert decision.denied_by is not None
        assert decision.denied_by.rule.limit == 1
        assert decision.states[0].remaining == 4
    assert [(await limiter.acquire([wide])).allowed for _ in range(5)] == [True] * 4 + [False]


@pytest.mark.parametrize(("limit", "processes", "share"), [(60, 1, 60), (60, 4, 15), (10, 3, 3), (5, 8, 1)])
async def test_process_allows_its_share(limit: int, processes: int, share: int) -> None:
    limiter = LocalLimiter(processes, FakeClock())
    outcomes = [await limiter.acquire([charge(limit=limit)]) for _ in range(limit + 1)]
    assert sum(outcome.allowed for outcome in outcomes) == share
    assert outcomes[0].states[0].remaining == share - 1


async def test_all_units_return_after_a_window() -> None:
    clock = FakeClock()
    limiter = LocalLimiter(1, clock)
    assert sum([(await limiter.acquire([charge()])).allowed for _ in range(12)]) == 10
    clock.advance(60 * (1 + EARLY))
    assert sum([(await limiter.acquire([charge()])).allowed for _ in range(12)]) == 10


async def test_least_recently_used_counter_is_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_limiter, "MAX_COUNTERS", 10)
    limiter = LocalLimiter(1, FakeClock())
    busy = charge("busy", limit=1)
    assert (await limiter.acquire([busy])).allowed
    for number in range(1000):
        await limiter.acquire([charge(f"c{number}")])
        assert not (await limiter.acquire([busy])).allowed
    assert len(limiter._counters) == 10


async def test_counter_memory_is_bounded() -> None:
    clock = FakeClock()
    limiter = LocalLimiter(1, clock)
    for _ in range(2000):
        clock.advance(0.1)
        await limiter.acquire([charge(limit=1_000_000)])
    [counter] = limiter._counters.values()
    assert len(counter.buckets) <= BUCKETS + 1


async def test_request_without_rules_is_allowed() -> None:
    assert (await LocalLimiter(1, FakeClock()).acquire([])).allowed


class World:
    """One process of `processes`, on clocks of the test's own."""

    def __init__(self, processes: int = 1) -> None:
        self.clock, self.wall = FakeClock(), FakeClock(1_790_000_000.0)
        self.limiter = LocalLimiter(processes, self.clock, self.wall)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.wall.advance(seconds)

    async def remaining(self, *charges: Charge) -> list[int]:
        return [state.remaining for state in await self.limiter.read(charges)]


async def test_reservations_are_settled_with_use() -> None:
    world, each, budget = World(), tokens("t", limit=1000, units=400), cost("c", limit=1000, units=300)
    first = (await world.limiter.acquire([each, budget])).admission
    second = (await world.limiter.acquire([each, budget])).admission
    assert await world.remaining(each, budget) == [200, 400]
    assert not (await world.limiter.acquire([each])).allowed
    first.settle(150, 70)
    first.release()  # only the first call counts
    assert await world.remaining(each, budget) == [450, 630]
    second.settle(None, None)
    assert await world.remaining(each, budget) == [450, 630]
    world.advance(62)
    assert await world.remaining(each, budget) == [1000, 630]
    world.advance(86_400)
    assert await world.remaining(budget) == [1000]


async def test_use_counts_from_admission() -> None:
    world, early, late = World(), tokens("t", limit=1000, units=100), tokens("t", limit=1000, units=100)
    running = (await world.limiter.acquire([early])).admission
    world.advance(30)
    (await world.limiter.acquire([late])).admission.settle(100, None)
    running.settle(100, None)
    world.advance(32)
    assert await world.remaining(late) == [900]
    world.advance(30)
    assert await world.remaining(late) == [1000]


async def test_concurrency_returns_when_requests_end() -> None:
    world, slot = World(processes=2), lease("l", limit=4)
    held = [await world.limiter.acquire([slot]) for _ in range(3)]
    assert [decision.allowed for decision in held] == [True, True, False]
    denied = held[2].denied_by
    assert denied is not None
    assert denied.reset_seconds == 1
    held[0].admission.release()
    assert (await world.limiter.acquire([slot])).allowed


async def test_dropped_admission_is_settled() -> None:
    world, slot = World(), lease("l", limit=1)
    for _ in range(3):
        assert (await world.limiter.acquire([slot])).allowed


async def test_budget_resets_with_the_next_day() -> None:
    world, budget = World(), cost("c", limit=100, units=100)
    (await world.limiter.acquire([budget])).admission.settle(None, 100)
    denied = (await world.limiter.acquire([budget])).denied_by
    assert denied is not None
    world.advance(denied.reset_seconds - 1)
    assert not (await world.limiter.acquire([budget])).allowed
    world.advance(1)
    assert (await world.limiter.acquire([budget])).allowed


async def test_shadow_rule_is_not_charged_above_its_limit() -> None:
    world = World()
    shadow = Charge(Rule("s", "key", "requests", 2, window_seconds=60, shadow=True), "s")
    states = [(await world.limiter.acquire([shadow, charge(limit=5)])).states[0] for _ in range(4)]
    assert [(state.remaining, state.shadow_denied) for state in states] == [
        (1, False),
        (0, False),
        (0, True),
        (0, True),
    ]


async def test_read_charges_nothing() -> None:
    world = World()
    assert await world.remaining(charge(limit=3)) == [3]
    assert await world.remaining(charge(limit=3)) == [3]


async def test_denied_rules_are_not_marked_as_shadow() -> None:
    """Neither of the rule that denied nor of a shadow rule that the same request exceeds."""
    world, each = World(), charge(limit=1)
    shadow = Charge(Rule("s", "key", "requests", 1, window_seconds=60, shadow=True), "s")
    await world.limiter.acquire([shadow, each])
    denied = await world.limiter.acquire([shadow, each])
    assert denied.denied_by is denied.states[1]
    assert [state.shadow_denied for state in denied.states] == [False, False]
    assert [state.shadow_denied for state in await world.limiter.read([shadow, each])] == [False, False]


async def test_denial_by_reserved_units_alone_is_short() -> None:
    """What is used and what is requested fill the limit exactly; only a running request is in the way."""
    world = World()
    (await world.limiter.acquire([tokens("t", limit=1000, units=400)])).admission.settle(400, None)
    running = (await world.limiter.acquire([tokens("t", limit=1000, units=300)])).admission
    exactly, beyond = tokens("t", limit=1000, units=600), tokens("t", limit=1000, units=601)
    waits = [(await world.limiter.acquire([each])).denied_by for each in (exactly, beyond)]
    assert [state is not None and state.reset_seconds == RESERVED_WAIT_SECONDS for state in waits] == [True, False]
    running.release()
    assert (await world.limiter.acquire([exactly])).allowed
