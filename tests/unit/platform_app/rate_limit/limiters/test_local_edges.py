"""The limiter of last resort at its edges: exact times, what a settlement counts, and which budgets become stale."""

import pytest

from platform_app.rate_limit.limiters.local import LocalLimiter
from platform_app.rate_limit.limiters.seeding import StaleBudgets
from platform_app.rate_limit.matching import Charge
from platform_app.rate_limit.rule import Kind, Rule
from tests.support.fakes.core import FakeClock
from tests.support.limits.limiter import charge, cost, lease, tokens

LEFT_OF_DAY = 35_200
"""Seconds from the wall clock's start to the end of its day."""


class World:
    """One process, on clocks of the test's own."""

    def __init__(self) -> None:
        self.clock, self.wall, self.stale = FakeClock(), FakeClock(1_790_000_000.0), StaleBudgets()
        self.limiter = LocalLimiter(1, self.clock, self.wall, self.stale)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.wall.advance(seconds)

    async def state(self, each: Charge) -> tuple[int, float]:
        """What remains, and the seconds until more does."""
        [state] = await self.limiter.read([each])
        return state.remaining, state.reset_seconds

    async def wait(self, each: Charge) -> float:
        """The seconds that a denial returns."""
        denied = (await self.limiter.acquire([each])).denied_by
        assert denied is not None
        return denied.reset_seconds


@pytest.fixture
def world() -> World:
    return World()


async def test_used_units_return_bucket_by_bucket(world: World) -> None:
    """A window of 64 s has buckets of one second, and each counts until no part of it is in the window."""
    each = charge("w", window=64, units=4)
    assert await world.state(each) == (10, 0.0)
    await world.limiter.acquire([each])
    assert await world.state(each) == (6, 65.0)
    world.advance(10.5)
    await world.limiter.acquire([charge("w", window=64, units=3)])
    assert await world.state(each) == (3, 54.5)
    world.advance(54.25)
    assert await world.state(each) == (3, 0.25)
    world.advance(0.25)
    assert await world.state(each) == (7, 10.0)


@pytest.mark.parametrize(("units", "wait"), [(4, 45), (7, 45), (8, 55), (10, 55), (11, 64)])
async def test_denial_waits_for_as_many_units_as_it_needs(world: World, units: int, wait: float) -> None:
    """One that needs more than the limit never fits, and gets the whole window."""
    for used in (4, 3):
        await world.limiter.acquire([charge("w", window=64, units=used)])
        world.advance(10)
    assert await world.wait(charge("w", window=64, units=units)) == wait


async def test_reserved_units_return_a_window_after_now(world: World) -> None:
    """As if their request ended now: its use counts from its admission."""
    each = tokens("t", window=64, units=100)
    world.advance(0.5)
    running = (await world.limiter.acquire([each])).admission
    assert await world.state(each) == (900, 64.5)
    running.release()
    assert await world.state(each) == (1000, 0.0)


async def test_budget_returns_at_the_end_of_its_day(world: World) -> None:
    budget = cost("c", limit=100, units=60)
    assert await world.state(budget) == (100, 0.0)
    admission = (await world.limiter.acquire([budget])).admission
    assert await world.state(budget) == (40, LEFT_OF_DAY)
    assert await world.wait(budget) == 1.0, "the running request may cost less"
    admission.settle(None, 41)
    assert await world.wait(budget) == LEFT_OF_DAY
    assert (await world.limiter.acquire([cost("c", limit=100, units=59)])).allowed


async def test_released_budget_has_its_units_again(world: World) -> None:
    budget = cost("c", limit=100, units=60)
    (await world.limiter.acquire([budget])).admission.release()
    assert await world.state(budget) == (100, 0.0)


async def test_slots_of_running_requests_return_soon(world: World) -> None:
    each = lease("l", limit=1)
    assert await world.state(each) == (1, 0.0)
    running = (await world.limiter.acquire([each])).admission
    assert await world.state(each) == (0, 1.0)
    assert await world.wait(each) == 1.0
    running.release()
    assert await world.state(each) == (1, 0.0)


async def test_cost_of_yesterdays_request_does_not_count_today(world: World) -> None:
    budget = cost("c", limit=100, units=60)
    running = (await world.limiter.acquire([budget])).admission
    world.advance(LEFT_OF_DAY)
    today = (await world.limiter.acquire([cost("c", limit=100, units=30)])).admission
    today.settle(None, 20)
    running.settle(None, 50)
    assert (await world.state(budget))[0] == 80


async def test_late_use_is_added_to_its_own_bucket(world: World) -> None:
    """Whether that bucket has units already or not, the buckets stay in order."""
    each = tokens("t", window=64, units=100)
    running = []
    for _ in range(3):
        running.append((await world.limiter.acquire([each])).admission)
        world.advance(10)
    for number in (2, 0, 1):
        running[number].settle(10 + number, None)
    assert await world.state(each) == (967, 35.0)
    world.advance(35)
    assert await world.state(each) == (977, 10.0)
    world.advance(10)
    assert await world.state(each) == (988, 10.0)
    world.advance(10)
    assert await world.state(each) == (1000, 0.0)


async def test_use_beyond_the_limit_leaves_nothing(world: World) -> None:
    each = tokens("t", limit=100, units=10)
    (await world.limiter.acquire([each])).admission.settle(150, None)
    assert (await world.state(each))[0] == 0


async def test_shadow_rule_reserves_only_what_fits(world: World) -> None:
    rule = Rule("s", "key", "tokens", 100, Kind.RESERVED_WINDOW, window_seconds=60, shadow=True)
    first = await world.limiter.acquire([Charge(rule, "s", 70)])
    second = await world.limiter.acquire([Charge(rule, "s", 70), tokens("t", units=1)])
    assert [state.shadow_denied for state in (*first.states, *second.states)] == [False, True, False]
    assert (await world.state(Charge(rule, "s")))[0] == 30
    second.admission.settle(70, None)
    first.admission.settle(70, None)
    assert (await world.state(Charge(rule, "s")))[0] == 30


@pytest.mark.parametrize(
    ("spent", "assumed", "left"),
    [
        (7, {"c": 5}, 93), (-7, None, 100), (None, None, 40), (None, {}, 100), (None, {"c": 5}, 95),
        (None, {"other": 5}, 100),
    ],
)  # fmt: skip
async def test_cost_counts_as_known_assumed_or_reserved(
    world: World, spent: int | None, assumed: dict[str, int] | None, left: int
) -> None:
    budget = cost("c", limit=100, units=60)
    (await world.limiter.acquire([budget])).admission.settle(3, spent, assumed)
    assert (await world.state(budget))[0] == left


async def test_assumed_cost_does_not_count_as_tokens(world: World) -> None:
    each = tokens("t", limit=100, units=60)
    (await world.limiter.acquire([each])).admission.settle(None, None, {"t": 5})
    assert (await world.state(each))[0] == 40


async def test_budgets_charged_here_are_stale_in_redis(world: World) -> None:
    """Redis does not know of the cost. Windows pass by themselves, and a request without cost changes nothing."""
    used, unused, window = cost("used"), cost("unused"), tokens("window")
    decision = await world.limiter.acquire([used, window])
    assert "used" not in world.stale, "it is only reserved"
    decision.admission.settle(10, 1)
    (await world.limiter.acquire([unused])).admission.settle(10, 0)
    assert [name in world.stale for name in ("used", "unused", "window")] == [True, False, False]


async def test_limiter_works_without_a_list_of_stale_budgets() -> None:
    limiter = LocalLimiter(1, FakeClock(), FakeClock())
    (await limiter.acquire([cost("c", limit=100, units=60)])).admission.settle(None, 60)
    assert not (await limiter.acquire([cost("c", limit=100, units=60)])).allowed


async def test_nothing_of_this_process_is_left_for_others(world: World) -> None:
    admission = (await world.limiter.acquire([tokens("t")])).admission
    assert admission.settlement() == ()
