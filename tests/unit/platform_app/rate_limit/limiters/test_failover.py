"""When the shared limiter fails: the breaker, its probes, and what is said about it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from platform_app.errors import LimiterUnavailable
from platform_app.rate_limit.limiter import CountersUnknown, Decision
from platform_app.rate_limit.limiters.failover import PROBE_SECONDS, FailoverLimiter, probe_of
from platform_app.rate_limit.matching import Charge
from platform_app.rate_limit.rule import Rule
from tests.support.fakes.core import Count, FakeLimiter
from tests.support.timing.virtual_time import virtual_time

CHARGES = [Charge(Rule("r", "key", "requests", 5, window_seconds=60), "fbp:rl:{c}:r")]


class World:
    def __init__(self) -> None:
        self.shared, self.local = FakeLimiter(), FakeLimiter()
        self.ticks = asyncio.Semaphore(0)
        self.limiter = FailoverLimiter(self.shared, self.local, self._sleep)

    async def _sleep(self, seconds: float) -> None:
        assert seconds == PROBE_SECONDS
        await self.ticks.acquire()

    async def pass_time(self, probes: int) -> None:
        """Let the probing task take so many turns."""
        for _ in range(probes):
            self.ticks.release()
            for _ in range(5):
                await asyncio.sleep(0)

    def is_degraded(self) -> bool:
        return self.limiter.degraded

    async def acquire(self) -> Decision:
        return await self.limiter.acquire(CHARGES)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.limiter.aclose()


def gauge() -> float | None:
    return REGISTRY.get_sample_value("platform_limiter_degraded")


async def test_shared_limiter_decides_while_available(world: World) -> None:
    allowed = Count("platform_limiter_total", decision="allowed", mode="shared")
    denied = Count("platform_limiter_total", decision="denied", mode="shared")
    assert (await world.acquire()).allowed
    world.shared.deny_seconds = 3.0
    for _ in range(2):
        assert not (await world.acquire()).allowed
    assert world.local.asked == []
    assert (allowed.grown, denied.grown) == (1, 2)


async def test_failure_is_decided_locally_and_degrades(world: World) -> None:
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


async def test_degraded_requests_do_not_probe(world: World) -> None:
    world.shared.down = True
    await world.acquire()
    for _ in range(100):
        await world.acquire()
    assert world.shared.asked == [CHARGES]
    await world.pass_time(probes=3)
    assert [[charge.counter for charge in asked] for asked in world.shared.asked[1:]] == [["fbp:rl:{c}:probe"]] * 3
    assert len(world.local.asked) == 101


async def test_requests_do_not_wait_for_a_probe(world: World) -> None:
    world.shared.down = True
    await world.acquire()

    class Frozen(FakeLimiter):
        async def acquire(self, charges: object) -> Decision:
            self.asked.append([])
            await asyncio.Event().wait()
            raise AssertionError

    frozen = Frozen()
    world.limiter._shared = frozen
    await world.pass_time(probes=1)
    assert len(frozen.asked) == 1
    async with asyncio.timeout(300):
        for _ in range(20):
            await world.acquire()
    await world.limiter.aclose()


async def test_first_successful_probe_recovers(world: World) -> None:
    world.shared.down = True
    await world.acquire()
    world.shared.down = False
    await world.acquire()
    assert world.is_degraded()
    await world.pass_time(probes=1)
    assert not world.is_degraded()
    assert gauge() == 0
    asked = len(world.local.asked)
    await world.acquire()
    assert len(world.local.asked) == asked


async def test_probe_bug_does_not_end_probing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.shared.down = True
    await world.acquire()

    async def raise_anything() -> bool:
        raise ValueError("a bug")

    monkeypatch.setattr(world.limiter, "probe", raise_anything)
    with capture_logs() as logs:
        await world.pass_time(probes=2)
    assert [line["event"] for line in logs] == ["limiter_probe_bug"] * 2
    monkeypatch.undo()
    world.shared.down = False
    await world.pass_time(probes=1)
    assert not world.is_degraded()


async def test_readiness_probe_does_not_change_state(world: World) -> None:
    """However often a probe asks: only requests and the limiter's own task decide."""
    await world.limiter.check()
    world.shared.down = True
    with pytest.raises(LimiterUnavailable):
        await world.limiter.check()
    assert not world.is_degraded()
    await world.acquire()
    assert world.is_degraded()
    world.shared.down = False
    await world.limiter.check()
    assert world.is_degraded()


async def test_each_change_is_logged_once(world: World) -> None:
    with capture_logs() as lines:
        for _ in range(2):
            world.shared.down = True
            for _ in range(30):
                await world.acquire()
            await world.pass_time(probes=5)
            world.shared.down = False
            await world.pass_time(probes=1)
            for _ in range(30):
                await world.acquire()
    assert [line["event"] for line in lines] == ["limiter_degraded", "limiter_recovered"] * 2
    assert lines[0]["error"].startswith("it refuses connections; ")
    assert {line["log_level"] for line in lines} == {"warning"}


def closed(*, shadow: bool = False) -> Charge:
    rule = Rule("strict", "key", "requests", 5, window_seconds=60, refuses_on_outage=True, shadow=shadow)
    return Charge(rule, "fbp:rl:{c}:strict")


async def test_closed_rule_refuses_while_degraded(world: World) -> None:
    refused = Count("platform_limiter_total", decision="closed", mode="local")
    assert (await world.limiter.acquire([*CHARGES, closed()])).allowed
    world.shared.down = True
    for _ in range(3):
        with pytest.raises(LimiterUnavailable) as caught:
            await world.limiter.acquire([*CHARGES, closed()])
        assert "'strict'" in caught.value.message
        assert caught.value.retry_after == 1
    assert refused.grown == 3
    assert world.local.asked == []
    assert (await world.acquire()).allowed, "where only other rules apply, they degrade"


async def test_closed_shadow_rule_refuses_no_request(world: World) -> None:
    world.shared.down = True
    assert (await world.limiter.acquire([closed(shadow=True)])).allowed


async def test_failed_read_degrades(world: World) -> None:
    assert (await world.limiter.read(CHARGES))[0].remaining == 5
    world.shared.down = True
    assert (await world.limiter.read(CHARGES))[0].remaining == 5
    assert world.is_degraded()


async def test_close_closes_both_limiters(world: World) -> None:
    await world.limiter.aclose()
    assert world.shared.closed
    assert world.local.closed


async def test_denial_by_the_share_of_one_process_is_marked(world: World) -> None:
    """So that it is remembered for a second only: Redis may be back, with room left."""
    world.shared.down = True
    assert not (await world.acquire()).degraded
    world.local.deny_seconds = 3.0
    denied = await world.acquire()
    assert (denied.allowed, denied.degraded) == (False, True)


def test_probe_is_never_denied() -> None:
    charge = probe_of("fbp:rl:{c}:r")
    assert (charge.counter, charge.units, charge.rule.limit) == ("fbp:rl:{c}:probe", 1, 1_000_000_000)
    assert charge.rule.window_seconds == 1


async def test_probe_before_any_request_notices_an_outage(world: World) -> None:
    """At the start of the process, so that no first request waits for the timeout."""
    assert await world.limiter.probe()
    assert [[charge.counter for charge in asked] for asked in world.shared.asked] == [["fbp:rl:{shared}:probe"]]
    assert not world.is_degraded()
    world.shared.down = True
    assert not await world.limiter.probe()
    assert world.is_degraded()
    world.shared.down = False
    assert await world.limiter.probe()
    assert not world.is_degraded()


async def test_each_slot_of_the_failed_request_is_probed_once(world: World) -> None:
    world.shared.down = True
    names = ("fbp:rl:{c}:r", "fbp:rl:{shared}:r", "fbp:rl:{c}:s")
    await world.limiter.acquire([Charge(CHARGES[0].rule, name) for name in names])
    await world.acquire()
    await world.pass_time(probes=1)
    probed = [charge.counter for charge in world.shared.asked[-1]]
    assert probed == ["fbp:rl:{c}:probe", "fbp:rl:{shared}:probe"]


async def test_unknown_counters_are_decided_locally(world: World) -> None:
    """Redis works, so the next request asks it again."""

    class Unseeded(FakeLimiter):
        async def acquire(self, charges: object) -> Decision:
            self.asked.append([])
            raise CountersUnknown("the ledger cannot be read")

    world.limiter._shared = unseeded = Unseeded()
    world.local.deny_seconds = 2.0
    decisions = [await world.acquire() for _ in range(2)]
    assert [decision.degraded for decision in decisions] == [True, True]
    assert (len(unseeded.asked), world.local.asked) == (2, [CHARGES] * 2)
    assert not world.is_degraded()


@virtual_time
async def test_redis_is_used_half_a_second_after_it_is_back() -> None:
    shared = FakeLimiter()
    limiter = FailoverLimiter(shared, FakeLimiter())
    shared.down = True
    await limiter.acquire(CHARGES)
    shared.down = False
    await asyncio.sleep(0.4)
    degraded = [limiter.degraded]
    await asyncio.sleep(0.2)
    degraded.append(limiter.degraded)
    assert degraded == [True, False]
    await limiter.aclose()
