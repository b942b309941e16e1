"""The seeder alone: which counters it seeds, and what remains to do after a failure. On a real server:
tests/integration/limits/test_seeding.py."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from platform_app.rate_limit.limiter import CountersUnknown
from platform_app.rate_limit.limiters import seeding
from platform_app.rate_limit.limiters.seeding import Seeder, StaleBudgets
from platform_app.rate_limit.matching import Charge, LimitedRequest
from platform_app.rate_limit.rule import Rule
from platform_app.redis.scripts import Script
from tests.support.fakes.core import Count
from tests.support.limits.limiter import cost

WHO = LimitedRequest("k" * 12, "team-a", "/v1/platform/chat", "m")


class Scripts:
    """Scripts that seed, unless `seeded` says that another process was first, or `error` is set."""

    def __init__(self) -> None:
        self.ran: list[tuple[Script, Sequence[str], Sequence[Any]]] = []
        self.seeded = 1
        self.error: Exception | None = None

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> "asyncio.Future[Any]":
        self.ran.append((script, keys, arguments))
        future = asyncio.get_running_loop().create_future()
        if self.error is not None:
            future.set_exception(self.error)
        else:
            future.set_result(self.seeded)
        return future


class History:
    """A ledger that knows of `units`, after `gate` if there is one."""

    def __init__(self, units: int = 0) -> None:
        self.units = units
        self.gate: asyncio.Event | None = None
        self.asked = 0
        self.cancelled = 0

    async def used(self, rule: Rule, usage: LimitedRequest, since_microseconds: int) -> int:
        self.asked += 1
        try:
            if self.gate is not None:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.units


class World:
    def __init__(self) -> None:
        self.scripts, self.history, self.stale = Scripts(), History(), StaleBudgets()
        self.seeder = Seeder(self.scripts, self.history, self.stale)

    async def seed(self, counter: str = "c", *, usage: LimitedRequest | None = WHO, started: float = 0.0) -> None:
        made = cost(counter)
        await self.seeder.seed([Charge(made.rule, made.counter, 5, usage)], [1, 3, 1_000], ["head"], started)


@pytest.fixture
def world() -> World:
    return World()


async def test_script_gets_start_use_and_units(world: World) -> None:
    world.history.units = 40
    told = Count("platform_budget_seeds_total", outcome="told")
    with capture_logs() as lines:
        await world.seed()
    [(_, [counter], arguments)] = world.scripts.ran
    assert arguments[:5] == ["head", 1_000, 40, 3, 0]
    assert [(line["event"], line["counter"], line["used"]) for line in lines] == [("budget_seeded", counter, "0.00004")]
    assert told.grown == 1


@pytest.mark.parametrize(("seeded", "units", "told"), [(0, 40, 0), (1, 0, 1)])
async def test_seeding_is_logged_only_if_it_changed_something(world: World, seeded: int, units: int, told: int) -> None:
    world.scripts.seeded, world.history.units = seeded, units
    counted = Count("platform_budget_seeds_total", outcome="told")
    with capture_logs() as lines:
        await world.seed()
    assert lines == []
    assert counted.grown == told


async def test_request_without_a_caller_reads_nothing(world: World) -> None:
    await world.seed(usage=None)
    assert world.history.asked == 0
    assert world.scripts.ran[0][2][2] == 0


async def test_stale_counter_stays_stale_until_it_is_seeded(world: World) -> None:
    world.stale.add(cost("c").counter)
    assert world.seeder.mode(cost("c").counter) == 2
    world.scripts.error = ConnectionError()
    with pytest.raises(CountersUnknown):
        await world.seed()
    assert world.seeder.mode(cost("c").counter) == 2
    await asyncio.sleep(0)
    again = Seeder(world.scripts, world.history, world.stale)
    world.scripts.error = None
    await again.seed([cost("c")], [1, 3, 1_000], ["head"], 0.0)
    assert world.scripts.ran[-1][2][4] == 1
    assert again.mode(cost("c").counter) == 1


async def test_end_cancels_running_reads(world: World) -> None:
    world.history.gate = asyncio.Event()
    request = asyncio.create_task(world.seed())
    while not world.history.asked:
        await asyncio.sleep(0)
    await world.seeder.aclose()
    assert world.history.cancelled == 1
    with pytest.raises(CountersUnknown):
        await request
    assert world.scripts.ran == []


async def test_memory_of_seeded_counters_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that was sent before a seeding seeds again only what is forgotten."""
    monkeypatch.setattr(seeding, "MAX_RECENT", 2)
    for counter in ("a", "b", "a", "c"):
        await world.seed(counter, started=float("inf"))
    asked = world.history.asked
    for counter in ("a", "c"):
        await world.seed(counter)
    assert world.history.asked == asked
    await world.seed("b")
    assert world.history.asked == asked + 1


def test_memory_of_stale_budgets_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeding, "MAX_STALE", 2)
    stale = StaleBudgets()
    for counter in ("a", "b", "c"):
        stale.add(counter)
    assert [counter in stale for counter in ("a", "b", "c")] == [True, True, False]
    stale.discard("a")
    stale.add("c")
    assert "c" in stale
    assert "a" not in stale
