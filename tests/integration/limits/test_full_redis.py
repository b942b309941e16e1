"""The limiter while Redis has no memory left: limits stay exact, shared by all processes."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from platform_app.config import Settings, load_settings
from platform_app.rate_limit.limiter import RateLimiter
from platform_app.rate_limit.limiters.failover import FailoverLimiter
from platform_app.rate_limit.limiters.local import LocalLimiter
from platform_app.rate_limit.limiters.opening import open_limiter
from platform_app.rate_limit.limiters.redis import RedisLimiter
from platform_app.redis.scripts import Script
from tests.support.limits.limiter import charge, cost, lease, tokens
from tests.support.servers.valkey import own_server

PATIENT_MS = 5000
"""These tests are about memory: a slow machine must not make Redis look down."""


@pytest.fixture
def own_valkey() -> Iterator[EmbeddedValkey]:
    with own_server("--maxmemory-policy", "noeviction") as server:
        yield server


@pytest.fixture
async def redis(own_valkey: EmbeddedValkey) -> AsyncIterator[Redis]:
    async with Redis.from_url(own_valkey.url) as client:
        yield client


@pytest.fixture
async def limiters(own_valkey: EmbeddedValkey) -> AsyncIterator[list[FailoverLimiter]]:
    """Those of two processes."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_limiter(settings_of(own_valkey))) for _ in range(2)]


def settings_of(server: EmbeddedValkey) -> Settings:
    return load_settings(
        database_url="postgresql://unused", redis_url=server.url, replicas=2, redis_timeout_ms=PATIENT_MS
    )


async def fill(redis: "Redis") -> None:
    """Leave less memory than is used: every ordinary write is refused."""
    await redis.config_set("maxmemory", 1)
    with pytest.raises(OutOfMemoryError):
        await redis.set("an ordinary write", b"x")


async def test_full_redis_keeps_limits_exact(limiters: list[FailoverLimiter], redis: Redis) -> None:
    """Counters of before and new ones, of every kind, over two processes: exactly the limit passes."""
    old, one = charge(limit=10), limiters[0]
    assert (await one.acquire([old])).allowed
    await fill(redis)
    kinds = {
        9: old, 10: charge(limit=10), 5: tokens(limit=500, units=100), 4: cost(limit=400, units=100), 3: lease(limit=3),
    }  # fmt: skip
    for room, each in kinds.items():
        asked = await asyncio.gather(*(limiters[number % 2].acquire([each]) for number in range(30)))
        assert sum(decision.allowed for decision in asked) == room
    assert not any(limiter.degraded for limiter in limiters)


async def test_full_redis_settles_and_renews(limiters: list[FailoverLimiter], redis: Redis) -> None:
    weighed, slot = tokens(limit=1000, units=100), lease(limit=4)
    held = [await limiter.acquire([weighed, slot]) for limiter in limiters]
    await fill(redis)
    assert await limiters[0]._shared.renew_now()  # type: ignore[attr-defined]  # the background task's next turn
    for decision in held:
        decision.admission.settle(10, None)
    async with asyncio.timeout(300):  # settlements are not waited for
        while [state.remaining for state in await limiters[1].read([weighed, slot])] != [980, 4]:
            await asyncio.sleep(0.01)
    assert not any(limiter.degraded for limiter in limiters)


async def test_new_process_loads_its_scripts_into_full_redis(own_valkey: EmbeddedValkey, redis: Redis) -> None:
    await fill(redis)
    await redis.script_flush()
    async with open_limiter(settings_of(own_valkey)) as limiter:
        assert (await limiter.acquire([charge()])).allowed
        assert not limiter.degraded


class NoMemory:
    """A ScriptClient for a server that refuses even these scripts, as a server does that knows no flags."""

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int | bytes]) -> "asyncio.Future[Any]":
        response = asyncio.get_running_loop().create_future()
        response.set_exception(OutOfMemoryError("command not allowed when used memory > 'maxmemory'."))
        return response


@pytest.mark.parametrize("processes", [1, 2, 5])
async def test_refused_scripts_leave_each_process_its_share(processes: int) -> None:
    """The declared policy of an outage, and never more: limit / processes each."""
    each = charge(limit=10)
    limiters = [FailoverLimiter(shared_without_memory(), LocalLimiter(processes)) for _ in range(processes)]
    asked = [await limiter.acquire([each]) for limiter in limiters for _ in range(10)]
    assert sum(decision.allowed for decision in asked) == 10
    for limiter in limiters:
        await limiter.aclose()


def shared_without_memory() -> RateLimiter:
    return RedisLimiter(NoMemory())
