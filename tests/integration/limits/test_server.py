"""The limiter and its server: round trips, racing clients, and a server that fails."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from platform_app.errors import LimiterUnavailable
from platform_app.rate_limit.limiters.redis import RedisLimiter
from platform_app.rate_limit.limiters.scripts import ACQUIRE, ALL
from platform_app.rate_limit.matching import Charge
from platform_app.redis.client import PipelinedRedis
from tests.support.limits.limiter import (
    charge,
    cost,
    lease,
    tokens,
)
from tests.support.servers.valkey import connect, counting_socket
from tests.support.timing.responsive_time import responsive_time


async def calls(redis: "Redis") -> dict[str, int]:
    stats = await redis.info("commandstats")
    return {name.removeprefix("cmdstat_"): found["calls"] for name, found in stats.items()}


@asynccontextmanager
async def connected(url: str, timeout_ms: int = 5000) -> AsyncIterator[PipelinedRedis]:
    """A separate client."""
    client = PipelinedRedis(url, timeout_ms / 1000)
    yield client
    await client.aclose()


async def test_flushed_script_cache_loses_no_request(redis: "Redis", valkey: EmbeddedValkey) -> None:
    async with connected(valkey.url) as client:
        limiter, each = RedisLimiter(client), charge(limit=3)
        assert (await limiter.acquire([each])).states[0].remaining == 2
        await redis.script_flush()
        assert (await limiter.acquire([each])).states[0].remaining == 1
        assert await redis.script_exists(ACQUIRE.sha) == [True]
        assert (await limiter.acquire([each])).states[0].remaining == 0


async def test_acquire_is_one_command_for_all_rules(own_valkey: EmbeddedValkey) -> None:
    redis = connect(own_valkey.url)
    charges = [charge(limit=1000), charge(limit=50), charge(limit=1000)]
    async with connected(own_valkey.url) as client:
        limiter = RedisLimiter(client)
        await limiter.acquire(charges)  # connects, loads the script
        before = await calls(redis)
        for _ in range(100):  # half of them denied
            await limiter.acquire(charges)
        after = await calls(redis)
    await redis.aclose()
    grown = {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)}
    assert grown.pop("evalsha") == 100
    assert grown.pop("info") == 1
    # Commands inside of the script are counted too; nothing else came from us.
    assert set(grown) <= {"time", "hmget", "hset", "hincrby", "hdel", "hgetall", "pexpire"}


@pytest.mark.parametrize("rules", [1, 4, 32])
async def test_acquire_is_one_round_trip_for_any_rules(valkey: EmbeddedValkey, tmp_path: Path, rules: int) -> None:
    """Rules of every kind. If units were reserved, one more command, which is not awaited, settles them."""
    makers: Iterator[Callable[..., Charge]] = itertools.cycle([charge, tokens, cost, lease])
    charges = [make(limit=1_000_000) for make in itertools.islice(makers, rules)]
    async with counting_socket(valkey, tmp_path) as traffic:
        pipe = PipelinedRedis(f"unix://{traffic.socket}", 5)
        await pipe.load_scripts(ALL, 5)
        limiter = RedisLimiter(pipe)
        for _ in range(20):
            before = (traffic.asked, traffic.answered)
            decision = await limiter.acquire(charges)
            assert (traffic.asked, traffic.answered) == (before[0] + 1, before[1] + 1)
            decision.admission.release()
            await limiter.aclose()
            settled = 0 if rules == 1 else 1
            assert (traffic.asked, traffic.answered) == (before[0] + 1 + settled, before[1] + 1 + settled)
        await pipe.aclose()


async def test_racing_clients_admit_exactly_the_limit(valkey: EmbeddedValkey) -> None:
    shared = charge(limit=50)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(valkey.url)) for _ in range(4)]
        decisions = await asyncio.gather(
            *(RedisLimiter(clients[number % 4]).acquire([shared, charge(limit=5)]) for number in range(200))
        )
    assert sum(decision.allowed for decision in decisions) == 50
    remaining = sorted(decision.states[0].remaining for decision in decisions if decision.allowed)
    assert remaining == list(range(50)), "two racers were told the same"


TIMEOUT_SECONDS = 0.5
"""Of clients of a server that fails. The gateway has 0.05, in which a busy machine's server does not always respond."""


@pytest.mark.parametrize("seconds", [0.0, 1.2])
async def test_frozen_server_is_unavailable_after_timeout(own_valkey: EmbeddedValkey, seconds: float) -> None:
    async with connected(own_valkey.url, int(1000 * TIMEOUT_SECONDS)) as client:
        limiter = RedisLimiter(client)
        small, large = charge(limit=5), charge(limit=5000)
        await eventually(limiter, small)
        own_valkey.pause()
        try:
            for concurrent in (1, 100, 1):
                async with responsive_time() as spent:
                    outcomes = await asyncio.gather(
                        *(limiter.acquire([small]) for _ in range(concurrent)), return_exceptions=True
                    )
                assert {type(outcome) for outcome in outcomes} == {LimiterUnavailable}
                assert spent.seconds < 3 * TIMEOUT_SECONDS  # to wait for a connection, to connect, and to hear back
                await asyncio.sleep(seconds)  # long enough for the connection to be given up
        finally:
            own_valkey.resume()
        # Late responses from the freeze do not reach new commands.
        left = [await eventually(limiter, large) for _ in range(20)]
        assert left == sorted(set(left), reverse=True)
        assert left[-1] > small.rule.limit


async def eventually(limiter: RedisLimiter, each: Charge) -> int:
    """What remains of a charge, asked for until the server responds."""
    async with asyncio.timeout(300):
        while True:
            with contextlib.suppress(LimiterUnavailable):
                return (await limiter.acquire([each])).states[0].remaining


async def test_killed_server_is_unavailable_and_used_again(own_valkey: EmbeddedValkey) -> None:
    async with connected(own_valkey.url, int(1000 * TIMEOUT_SECONDS)) as client:
        limiter, each = RedisLimiter(client), charge(limit=5)
        while await eventually(limiter, each):
            pass
        own_valkey.kill()
        for _ in range(3):
            async with responsive_time() as spent:
                with pytest.raises(LimiterUnavailable) as caught:
                    await limiter.acquire([each])
            assert spent.seconds < TIMEOUT_SECONDS, "it is refused, not waited for"
            assert caught.value.retry_after == 1
            assert "valkey.sock" not in caught.value.message
        own_valkey.start()
        assert await eventually(limiter, each) > 0, "a new server: empty counters, empty script cache"


async def test_redis_key_of_wrong_type_is_unavailable(redis: "Redis", valkey: EmbeddedValkey) -> None:
    each = charge()
    await redis.set(each.counter, "not a hash")
    async with connected(valkey.url) as client:
        with pytest.raises(LimiterUnavailable):
            await RedisLimiter(client).acquire([each])
        assert (await RedisLimiter(client).acquire([charge()])).allowed
    await redis.delete(each.counter)
