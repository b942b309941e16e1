"""The exact moment at which a rescan drops a bucket or a reservation. On the test's clock."""

from platform_app.rate_limit.limiters.redis import BUCKETS, RedisLimiter
from platform_app.rate_limit.matching import Charge
from platform_app.rate_limit.reservations import RESERVATION_SECONDS
from tests.support.limits.limiter import SECOND, TimedScripts, charge, tokens

WIDTH = 50
"""Seconds of a bucket of a window of 3,200 s."""


async def remaining_after(limiter: RedisLimiter, each: Charge) -> int:
    """Charge once more; return what remains."""
    decision = await limiter.acquire([each])
    assert decision.allowed
    return int(decision.states[0].remaining)


async def test_rescan_keeps_the_oldest_bucket_that_counts(timed: TimedScripts) -> None:
    """The bucket before it has ended, which starts the rescan."""
    limiter, each = RedisLimiter(timed), charge(limit=10, window=WIDTH * BUCKETS)
    timed.now -= timed.now % (WIDTH * SECOND)
    assert await remaining_after(limiter, each) == 9
    timed.advance(WIDTH)
    assert await remaining_after(limiter, each) == 8
    timed.advance(WIDTH * BUCKETS)
    assert await remaining_after(limiter, each) == 8, "the first unit has ended, the second counts"
    timed.advance(WIDTH)
    assert await remaining_after(limiter, each) == 8, "the second unit has ended too"


async def test_reservation_counts_until_its_last_millisecond(timed: TimedScripts) -> None:
    """Nothing renews it, as after the end of its process."""
    timed.now -= timed.now % 1000
    each = tokens(limit=100, units=60)
    lost, other = RedisLimiter(timed), RedisLimiter(timed)
    reserved = await lost.acquire([each])  # an admission that is not referenced any more is settled
    assert reserved.allowed
    timed.advance(RESERVATION_SECONDS - 0.001)
    assert not (await other.acquire([each])).allowed
    timed.advance(0.001)
    assert (await other.acquire([each])).allowed
    reserved.admission.release()
