"""How long the server remembers a counter: for as long as it counts, and no longer. On the test's clock."""

import math
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from platform_app.rate_limit.limiter import Admission
from platform_app.rate_limit.limiters.redis import BUCKETS, RedisLimiter
from platform_app.rate_limit.matching import Charge
from platform_app.rate_limit.reservations import RESERVATION_SECONDS
from tests.support.limits.limiter import SECOND, TimedScripts, charge, cheaper, cost, lease, tokens

RESERVATION_MS = round(1000 * RESERVATION_SECONDS)
DAY_MS = 86_400_000


async def admit(limiter: RedisLimiter, *charges: Charge) -> Admission:
    decision = await limiter.acquire(charges)
    assert decision.allowed
    return decision.admission


def window_ms(seconds: int) -> int:
    """The time in which a unit of a window can count: its own bucket, 64 more, and one for the rounding."""
    return math.ceil(math.ceil(seconds * SECOND / BUCKETS) * (BUCKETS + 2) / 1000)


def until_midnight_ms(timed: TimedScripts) -> int:
    """To the end of the day in UTC."""
    return math.ceil((DAY_MS * 1000 - timed.now % (DAY_MS * 1000)) / 1000)


@pytest.mark.parametrize("seconds", [1, 60, 3600, 86_400])
async def test_window_expires_after_its_units(timed: TimedScripts, seconds: int) -> None:
    each = charge(window=seconds)
    await admit(RedisLimiter(timed), each)
    assert await timed.lifetime_ms(each.counter) == window_ms(seconds)


async def test_second_charge_in_bucket_keeps_expiry(timed: TimedScripts) -> None:
    limiter, each = RedisLimiter(timed), charge(window=3200)  # buckets of 50 s
    timed.now -= timed.now % (50 * SECOND)
    await admit(limiter, each)
    timed.advance(49)
    await admit(limiter, each)
    assert await timed.lifetime_ms(each.counter) == window_ms(3200) - 49_000
    timed.advance(1)
    await admit(limiter, each)
    assert await timed.lifetime_ms(each.counter) == window_ms(3200)


async def test_denial_keeps_expiry(timed: TimedScripts) -> None:
    limiter, each = RedisLimiter(timed), charge(limit=1, window=3200)
    await admit(limiter, each)
    timed.advance(100)
    assert not (await limiter.acquire([each])).allowed
    assert await timed.lifetime_ms(each.counter) == window_ms(3200) - 100_000


@pytest.mark.parametrize("seconds", [1, 60])
async def test_reserved_window_outlives_its_reservation(timed: TimedScripts, seconds: int) -> None:
    """A window shorter than a hold must not end the hold."""
    each = tokens(window=seconds)
    admission = await admit(RedisLimiter(timed), each)
    assert await timed.lifetime_ms(each.counter) == max(RESERVATION_MS, window_ms(seconds))
    admission.release()


async def test_settlement_of_window_renews_expiry(timed: TimedScripts) -> None:
    limiter, each = RedisLimiter(timed), tokens(window=60)
    admission = await admit(limiter, each)
    timed.advance(10)
    admission.settle(5, None)
    await limiter.aclose()
    assert await timed.lifetime_ms(each.counter) == window_ms(60)


@pytest.mark.parametrize("make", [tokens, cost])
async def test_settlement_after_lost_data_sets_expiry(
    timed: TimedScripts, redis: "Redis", make: Callable[[], Charge]
) -> None:
    """A counter that the settlement creates must not stay forever."""
    limiter, each = RedisLimiter(timed), make()
    admission = await admit(limiter, each)
    await redis.delete(each.counter)
    admission.settle(5, 5)
    await limiter.aclose()
    assert await redis.exists(each.counter)
    expected = until_midnight_ms(timed) + RESERVATION_MS if make is cost else window_ms(60)
    assert await timed.lifetime_ms(each.counter) == expected


async def test_budget_expires_a_reservation_after_its_period(timed: TimedScripts) -> None:
    limiter, each = RedisLimiter(timed), cost(zone="UTC")
    admission = await admit(limiter, each)
    assert await timed.lifetime_ms(each.counter) == until_midnight_ms(timed) + RESERVATION_MS
    timed.advance(3600)
    admission.settle(None, 5)
    await limiter.aclose()
    assert await timed.lifetime_ms(each.counter) == until_midnight_ms(timed) + RESERVATION_MS


async def test_concurrency_counter_expires_with_reservation(timed: TimedScripts) -> None:
    limiter, each = RedisLimiter(timed), lease()
    first = await admit(limiter, each)
    assert await timed.lifetime_ms(each.counter) == RESERVATION_MS
    timed.advance(7)
    second = await admit(limiter, each)
    assert await timed.lifetime_ms(each.counter) == RESERVATION_MS
    first.release()
    second.release()
    await limiter.aclose()
    assert await timed.lifetime_ms(each.counter) is None, "nothing is left behind"


async def test_renewal_restores_full_expiry(timed: TimedScripts) -> None:
    limiter, slot = RedisLimiter(timed), lease()
    admission = await admit(limiter, slot)
    timed.advance(RESERVATION_SECONDS - 1)
    assert await limiter.renew_now()
    assert await timed.lifetime_ms(slot.counter) == RESERVATION_MS
    admission.release()


async def test_renewal_keeps_longer_expiry(timed: TimedScripts) -> None:
    limiter, each = RedisLimiter(timed), tokens(window=3600)
    admission = await admit(limiter, each)
    timed.advance(5)
    assert await limiter.renew_now()
    assert await timed.lifetime_ms(each.counter) == window_ms(3600) - 5000
    admission.release()


async def test_renewal_of_lost_counter_sets_expiry(timed: TimedScripts, redis: "Redis") -> None:
    limiter, slot = RedisLimiter(timed), lease()
    admission = await admit(limiter, slot)
    await redis.delete(slot.counter)
    assert await limiter.renew_now()
    assert await timed.lifetime_ms(slot.counter) == RESERVATION_MS
    admission.release()


async def test_expired_counter_starts_at_zero(timed: TimedScripts, redis: "Redis") -> None:
    limiter, each = RedisLimiter(timed), charge(limit=3, window=60)
    await admit(limiter, each)
    timed.now += window_ms(60) * 1000
    assert (await limiter.read([each]))[0].remaining == 3
    assert await redis.exists(each.counter) == 0


async def test_undo_of_expired_counter_creates_none(timed: TimedScripts, redis: "Redis") -> None:
    """Taking back what the server forgot makes no counter without an end."""
    limiter, each = RedisLimiter(timed), charge(window=60)
    decision = await limiter.acquire([each])
    timed.now += window_ms(60) * 1000
    limiter.undo([cheaper(each, 1)], decision)
    await limiter.aclose()
    assert await redis.exists(each.counter) == 0
