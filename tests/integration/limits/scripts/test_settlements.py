"""What a settlement writes: units that were used, units that are given back, and nothing for what is over."""

from typing import TYPE_CHECKING

import pytest

from platform_app.rate_limit.limiters.redis import RedisLimiter
from tests.support.limits.limiter import TimedScripts, admit, charge, remaining, settled, tokens

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def test_undo_gives_back_what_was_charged(timed: TimedScripts) -> None:
    limiter, each = RedisLimiter(timed), charge(limit=10, units=4)
    decision = await limiter.acquire([each])
    assert await remaining(limiter, each) == [6]
    limiter.undo([each], decision)
    await settled(limiter)
    assert await remaining(limiter, each) == [10]


async def test_undo_takes_no_more_than_the_server_has(timed: TimedScripts, redis: "Redis") -> None:
    """The server lost the charge; what others used since stays counted."""
    limiter, each = RedisLimiter(timed), charge(limit=10, units=3)
    lost = charge(each.counter, limit=10, units=5)
    decision = await limiter.acquire([lost])
    await redis.delete(each.counter)
    await limiter.acquire([each])
    limiter.undo([lost], decision)
    await settled(limiter)
    assert await remaining(limiter, each) == [10], "and not 12"


async def test_undo_of_a_lost_charge_writes_nothing(timed: TimedScripts, redis: "Redis") -> None:
    limiter, each = RedisLimiter(timed), charge(limit=10, units=5)
    decision = await limiter.acquire([each])
    await redis.delete(each.counter)
    limiter.undo([each], decision)
    await settled(limiter)
    assert await redis.exists(each.counter) == 0


@pytest.mark.parametrize(("seconds", "counted"), [(64, 5), (65, 0)])
async def test_use_counts_from_the_admission(timed: TimedScripts, redis: "Redis", seconds: int, counted: int) -> None:
    """A window of 64 s has buckets of one second. After 65 s a unit of the first one would have returned."""
    limiter, each = RedisLimiter(timed), tokens(limit=1000, window=64)
    admission = await admit(limiter, each)
    assert admission is not None
    timed.advance(seconds)
    admission.settle(5, None)
    await settled(limiter)
    buckets = [name for name in await redis.hkeys(each.counter) if name.isdigit()]
    assert len(buckets) == (counted > 0)
    assert await remaining(limiter, each) == [1000 - counted]
