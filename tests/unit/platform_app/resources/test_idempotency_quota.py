"""How much may be stored for a key and an owner: exactly the quota, and what happens beyond it."""

import pytest

from platform_app.errors import RateLimited
from platform_app.idempotency.store import Holder
from platform_app.rate_limit.limiters.local import LocalLimiter
from platform_app.resources.idempotency_quota import RECORD_BYTES, REFUSED_SECONDS, LimiterQuota, QuotaLimits

QUOTA = 64 * 1024
SIZE = 7 * 1024 - RECORD_BYTES
"""Eight of them, with their records, fill the part of a quota that is for responses."""
KEEP_SECONDS = 3600
ONE, TWO, STRANGER = Holder("key1", "team"), Holder("key2", "team"), Holder("key3", "other team")


class Clock:
    """A test's time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def quota_of(clock: Clock, key_bytes: int = QUOTA, owner_bytes: int = 10 * QUOTA) -> LimiterQuota:
    limiter = LocalLimiter(1, clock, clock)
    return LimiterQuota(limiter, QuotaLimits(key_bytes, owner_bytes, KEEP_SECONDS), clock)


async def fill(quota: LimiterQuota, holder: Holder) -> int:
    """How many responses there was room for."""
    count = 0
    while await quota.take_response(holder, SIZE):
        count += 1
    return count


async def mark_until_refused(quota: LimiterQuota, holder: Holder) -> int:
    """How many markers there was room for."""
    for count in range(10_000):
        try:
            quota.require_marker(holder)
        except RateLimited:
            return count
        await quota.take_marker(holder)
    raise AssertionError("markers have no bound")


async def test_key_quota_holds_exactly(clock: Clock) -> None:
    quota = quota_of(clock)
    assert await fill(quota, ONE) == 8
    assert not await quota.take_response(ONE, 0)
    assert await fill(quota, TWO) == 8, "another key has its own quota"


async def test_owner_quota_is_shared_by_its_keys(clock: Clock) -> None:
    quota = quota_of(clock, key_bytes=QUOTA, owner_bytes=QUOTA)
    assert await fill(quota, ONE) == 8
    assert await fill(quota, TWO) == 0
    assert await fill(quota, STRANGER) == 8


async def test_quota_comes_back_when_responses_end(clock: Clock) -> None:
    quota = quota_of(clock)
    await fill(quota, ONE)
    clock.now += KEEP_SECONDS
    assert not await quota.take_response(ONE, SIZE), "what was stored is counted until it has ended"
    clock.now += KEEP_SECONDS / 32
    assert await fill(quota, ONE) == 8


async def test_full_quota_still_has_room_for_markers(clock: Clock) -> None:
    quota = quota_of(clock)
    await fill(quota, ONE)
    assert await mark_until_refused(quota, ONE) == QUOTA // 8 // RECORD_BYTES
    quota.require_marker(TWO)


async def test_refused_holder_is_asked_again_after_a_minute(clock: Clock) -> None:
    quota = quota_of(clock)
    await mark_until_refused(quota, ONE)
    with pytest.raises(RateLimited) as caught:
        quota.require_marker(ONE)
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= REFUSED_SECONDS
    clock.now += REFUSED_SECONDS
    quota.require_marker(ONE)
    await quota.take_marker(ONE)
    with pytest.raises(RateLimited):
        quota.require_marker(ONE)
    clock.now += 2 * KEEP_SECONDS
    assert await mark_until_refused(quota, ONE) == QUOTA // 8 // RECORD_BYTES


async def test_key_and_owner_quota_count_what_is_stored_once(clock: Clock) -> None:
    """A response for which one of the two has no room is counted in neither."""
    quota = quota_of(clock, key_bytes=QUOTA, owner_bytes=2 * QUOTA)
    await fill(quota, ONE)
    for _ in range(100):
        assert not await quota.take_response(ONE, SIZE)
    assert await fill(quota, TWO) == 8
