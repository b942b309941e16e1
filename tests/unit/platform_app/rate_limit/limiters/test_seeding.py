"""The seeder alone: which counters it seeds, and what remains to do after a failure. On a real server:
tests/integration/limits/test_seeding.py."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from platform_app.rate_limit.limiter import CountersUnknown
from platform_app.rate_limit.limiters import seeding
from platform_app.rate_limit.limiters.seeding import HistoryUnavailable, Seeder, StaleBudgets
from platform_app.rate_limit.matching import Charge, LimitedRequest
from platform_app.rate_limit.rule import Rule
from platform_app.redis.scripts import Script
from tests.support.fakes.core import Count, FakeClock
from tests.support.limits.limiter import cost

WHO = LimitedRequest("k" * 12, "team-a", "/v1/platform/chat", "m")


class Scripts:
    """Scripts that seed, unless `seeded` says that another process was first, or `error` is set."""

    def __init__(self) -> None:
        self.ran: list[tuple[Script, Sequence[str], Sequence[Any]]] = []
        self.seeded = 1
        self.error: Exception | None = None
        self.bad = ""
        """The counter whose script fails."""

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> "asyncio.Future[Any]":
        self.ran.append((script, keys, arguments))
        future = asyncio.get_running_loop().create_future()
        if (error := ConnectionError() if keys == [self.bad] else self.error) is not None:
            future.set_exception(error)
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
        self.clock = FakeClock()
        self.seeder = Seeder(self.scripts, self.history, self.stale, self.clock)

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


async def failures(world: World, error: Exception, times: int) -> list[Any]:
    """Let so many requests fail, each after the pause, and return the log lines."""
    world.scripts.error = error
    with capture_logs() as lines:
        for _ in range(times):
            with pytest.raises(CountersUnknown):
                await world.seed(started=float("inf"))  # after any earlier seeding
            world.clock.advance(seeding.RETRY_SECONDS)
    return [(line["event"], line.get("why")) for line in lines]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (HistoryUnavailable("no database"), "no database"),
        (TimeoutError(), "TimeoutError"),
        (OSError("x" * 300), "x" * 200),
    ],
)
async def test_first_failure_of_an_outage_is_logged(world: World, error: Exception, why: str) -> None:
    failed = Count("platform_budget_seeds_total", outcome="failed")
    assert await failures(world, error, 3) == [("budget_seed_failed", why)]
    assert failed.grown == 3
    world.scripts.error = None
    await world.seed()
    assert await failures(world, error, 2) == [("budget_seed_failed", why)], "another outage is logged again"


async def test_bug_is_logged_each_time(world: World) -> None:
    assert await failures(world, ZeroDivisionError(), 2) == [("budget_seed_bug", None)] * 2


async def test_pause_after_a_failure_reads_nothing(world: World) -> None:
    world.scripts.error = ConnectionError()
    with pytest.raises(CountersUnknown, match="cannot be read"):
        await world.seed()
    world.clock.advance(seeding.RETRY_SECONDS - 0.01)
    with pytest.raises(CountersUnknown, match="a moment ago"):
        await world.seed()
    assert len(world.scripts.ran) == 1
    world.clock.advance(0.01)
    world.scripts.error = None
    await world.seed()
    assert len(world.scripts.ran) == 2


async def test_several_counters_are_seeded_at_once(world: World) -> None:
    """Those that the script named, by their indices, except one that was seeded since the call."""
    charges = [replace(cost(name), usage=WHO) for name in ("a", "b", "c")]
    await world.seed("a", started=float("inf"))
    await world.seeder.seed(charges, [1, 3, 1_000, 2, 4, 2_000, 3, 5, 3_000], ["head"], 0.0)
    assert [(keys, list(arguments[1:4])) for _, keys, arguments in world.scripts.ran[1:]] == [
        ([charges[1].counter], [2_000, 0, 4]),
        ([charges[2].counter], [3_000, 0, 5]),
    ]


async def test_request_fails_if_one_of_its_counters_does(world: World) -> None:
    charges = [replace(cost(name), usage=WHO) for name in ("good", "bad")]
    world.scripts.bad = charges[1].counter
    with pytest.raises(CountersUnknown, match="cannot be read"):
        await world.seeder.seed(charges, [1, 3, 1_000, 2, 4, 2_000], ["head"], 0.0)


async def test_slow_ledger_ends_the_wait_and_is_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeding, "WAIT_SECONDS", 0.01)
    late = Count("platform_budget_seeds_total", outcome="late")
    world.history.gate = asyncio.Event()
    with pytest.raises(CountersUnknown, match="takes too long"):
        await world.seed()
    assert late.grown == 1
    world.history.gate.set()
    await world.seed()
    assert world.history.asked == 1, "the read went on, and the next request waited for it"
    await world.seeder.aclose()
