"""Several processes reserve units of one counter: each ends its own, and those of a dead one end by themselves.

A reservation lives for 20 s unless it is renewed.
"""

from typing import TYPE_CHECKING

import pytest

from platform_app.rate_limit.limiter import Admission
from platform_app.rate_limit.limiters.redis import RedisLimiter
from platform_app.rate_limit.matching import Charge
from tests.support.limits.limiter import TimedScripts, admit, charge, cheaper, lease, remaining, settled, tokens

if TYPE_CHECKING:
    from redis.asyncio import Redis


class Process:
    """A limiter that holds units of a counter, as one process of the gateway."""

    def __init__(self, timed: TimedScripts) -> None:
        self.limiter = RedisLimiter(timed)
        self.held: Admission | None = None

    async def hold(self, each: Charge, units: int) -> None:
        self.held = await admit(self.limiter, cheaper(each, units))
        assert self.held is not None

    async def release(self) -> None:
        assert self.held is not None
        self.held.release()
        await settled(self.limiter)


async def holders(redis: "Redis", each: Charge) -> int:
    """The number of processes that the server has a reservation of."""
    names = await redis.hkeys(each.counter)
    return len([name for name in names if name.startswith(b"p")])  # type: ignore[arg-type]  # this client returns bytes


@pytest.mark.parametrize("each", [lease(limit=10), tokens(limit=10)])
async def test_released_units_leave_those_of_others(timed: TimedScripts, redis: "Redis", each: Charge) -> None:
    one, other = Process(timed), Process(timed)
    await one.hold(each, 1)
    await other.hold(each, 1)
    await one.release()
    assert await remaining(other.limiter, each) == [9]
    assert await holders(redis, each) == 1
    await other.release()
    assert await remaining(other.limiter, each) == [10]
    assert await redis.hmget(each.counter, "H", "E") == [None, None]


async def test_first_end_of_a_reservation_counts(timed: TimedScripts, redis: "Redis") -> None:
    """Those of a later process do not extend those of a dead one, before and after one of them has ended."""
    each = tokens(limit=100)
    first, second, third = Process(timed), Process(timed), Process(timed)
    await first.hold(each, 5)
    timed.advance(5)
    await second.hold(each, 7)
    timed.advance(5)
    await third.hold(each, 9)
    timed.advance(10)
    assert await remaining(third.limiter, each) == [84]
    assert await redis.hget(each.counter, "E") == str((timed.now + 5_000_000) // 1000).encode()
    timed.advance(5)
    assert await remaining(third.limiter, each) == [91]
    assert await holders(redis, each) == 1
    timed.advance(5)
    assert await remaining(third.limiter, each) == [100]
    assert await redis.hmget(each.counter, "H", "E") == [None, None]
    for process in (first, second, third):
        await process.release()


async def test_process_ends_its_own_units_after_another_died(timed: TimedScripts, redis: "Redis") -> None:
    each = tokens(limit=100)
    dead, one, other = Process(timed), Process(timed), Process(timed)
    await dead.hold(each, 5)
    timed.advance(10)
    await one.hold(each, 7)
    await other.hold(each, 9)
    timed.advance(11)
    await one.release()
    assert await remaining(other.limiter, each) == [91]
    assert await holders(redis, each) == 1
    timed.advance(8)
    await other.release()
    assert await remaining(other.limiter, each) == [100]
    await dead.release()


async def test_single_bucket_that_has_ended_is_deleted(timed: TimedScripts, redis: "Redis") -> None:
    """Beside a reservation that lives, so that nothing else ends with it."""
    process, each = Process(timed), tokens(limit=100, window=64)
    await process.hold(each, 5)
    assert process.held is not None
    process.held.settle(5, None)
    await settled(process.limiter)
    timed.advance(60)
    await process.hold(each, 7)
    timed.advance(6)
    assert await remaining(process.limiter, each) == [93]
    assert [name for name in await redis.hkeys(each.counter) if name.isdigit()] == []
    await process.release()


async def test_rescan_stores_what_it_found(timed: TimedScripts, redis: "Redis") -> None:
    """Else each call would read the whole counter again."""
    limiter, each = RedisLimiter(timed), charge(limit=10, window=64, units=5)
    await limiter.acquire([each])
    timed.advance(30)
    await limiter.acquire([cheaper(each, 3)])
    later = timed.now // 1_000_000
    timed.advance(40)
    assert await remaining(limiter, each) == [7]
    assert await redis.hmget(each.counter, "t", "o") == [b"3", str(later).encode()]
