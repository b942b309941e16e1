"""When the shared limiter fails: the breaker, its probes, and what is said about it."""

import asyncio
from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from platform_app.rate_limit.degrading_limiter import DegradingLimiter
from platform_app.rate_limit.limiter import Decision
from platform_app.rate_limit.rule import Rule
from platform_app.rate_limit.rules import Charge
from tests.unit.fakes import Count, FakeClock, FakeLimiter

CHARGES = [Charge(Rule("r", "key", "requests", 5, window_seconds=60), "c")]


class World:
    def __init__(self) -> None:
        self.shared, self.local, self.clock = FakeLimiter(), FakeLimiter(), FakeClock()
        self.limiter = DegradingLimiter(self.shared, self.local, self.clock)

    def is_degraded(self) -> bool:
        return self.limiter.degraded

    async def acquire(self) -> Decision:
        return await self.limiter.acquire(CHARGES)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    with capture_logs() as lines:
        events: list[str] = []
        yield events
        events += [line["event"] for line in lines]


def gauge() -> float | None:
    return REGISTRY.get_sample_value("platform_limiter_degraded")


async def test_while_all_is_well_the_shared_limiter_decides_alone(world: World) -> None:
    allowed = Count("platform_limiter_total", decision="allowed", mode="shared")
    denied = Count("platform_limiter_total", decision="denied", mode="shared")
    assert (await world.acquire()).allowed
    world.shared.deny_seconds = 3.0
    assert not (await world.acquire()).allowed
    assert world.local.asked == []
    assert (allowed.grown, denied.grown) == (1, 1)


async def test_a_failure_is_decided_locally_and_opens_the_breaker(world: World) -> None:
    world.shared.down = True
    world.local.deny_seconds = 2.0
    unavailable = Count("platform_limiter_total", decision="unavailable", mode="shared")
    denied = Count("platform_limiter_total", decision="denied", mode="local")
    for _ in range(10):
        assert not (await world.acquire()).allowed
    assert len(world.shared.asked) == 1
    assert world.local.asked == [CHARGES] * 10
    assert world.is_degraded()
    assert gauge() == 1
    assert (unavailable.grown, denied.grown) == (1, 10)


async def test_one_request_a_second_probes(world: World) -> None:
    world.shared.down = True
    await world.acquire()
    for _ in range(100):  # ten seconds
        world.clock.advance(0.1)
        await world.acquire()
    assert 9 <= len(world.shared.asked) - 1 <= 10
    assert len(world.local.asked) == 101


async def test_others_do_not_wait_for_a_probe(world: World) -> None:
    world.shared.down = True
    await world.acquire()
    world.clock.advance(1.0)

    class Frozen(FakeLimiter):
        async def acquire(self, charges: object) -> Decision:
            self.asked.append([])
            await asyncio.Event().wait()
            raise AssertionError

    frozen = Frozen()
    world.limiter._shared = frozen
    tasks = [asyncio.create_task(world.acquire()) for _ in range(20)]
    await asyncio.sleep(0.01)
    assert len(frozen.asked) == 1
    assert sum(task.done() for task in tasks) == 19
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_it_recovers_with_the_first_good_probe(world: World) -> None:
    world.shared.down = True
    await world.acquire()
    world.shared.down = False
    await world.acquire()
    assert world.is_degraded()  # not before the second is over
    world.clock.advance(1.0)
    await world.acquire()
    assert not world.is_degraded()
    assert gauge() == 0
    asked = len(world.local.asked)
    await world.acquire()
    assert len(world.local.asked) == asked


async def test_it_logs_once_for_each_change(world: World) -> None:
    with capture_logs() as lines:
        for _ in range(2):
            world.shared.down = True
            for _ in range(30):
                await world.acquire()
                world.clock.advance(0.5)
            world.shared.down = False
            for _ in range(30):
                world.clock.advance(0.5)
                await world.acquire()
    assert [line["event"] for line in lines] == ["limiter_degraded", "limiter_recovered"] * 2
    assert lines[0]["error"] == "ConnectionRefusedError"
    assert {line["log_level"] for line in lines} == {"warning"}


async def test_both_are_closed(world: World) -> None:
    await world.limiter.aclose()
    assert world.shared.closed
    assert world.local.closed
