"""How long until units return, to the microsecond: `reset` while there is room, `Retry-After` of a denial.

A window of 64 s has buckets of one second, and the test's clock begins at the start of one. A unit counts until 65 s
after the start of its bucket.
"""

import pytest

from platform_app.rate_limit.limiters.redis import RedisLimiter
from platform_app.rate_limit.matching import Charge
from tests.support.limits.limiter import TimedScripts, admit, charge, cheaper, cost, remaining, settled, tokens

END_OF_DAY = 35_200.0
"""Seconds from the start of the test's clock to midnight in UTC."""


async def used(limiter: RedisLimiter, each: Charge, units: int) -> None:
    """Use units of a rule for tokens, at once."""
    admission = await admit(limiter, cheaper(each, units))
    assert admission is not None
    admission.settle(units, units)
    await settled(limiter)


async def reset_of(limiter: RedisLimiter, each: Charge) -> float:
    [state] = await limiter.read([each])
    return state.reset_seconds


@pytest.mark.parametrize("each", [charge(window=64), tokens(window=64, units=10)])
async def test_reset_is_when_the_oldest_units_return(timed: TimedScripts, each: Charge) -> None:
    limiter = RedisLimiter(timed)
    if each.rule.unit == "tokens":
        await used(limiter, each, 10)
    else:
        await limiter.acquire([each])
    assert await reset_of(limiter, each) == 65
    timed.advance(10.25)
    assert await reset_of(limiter, each) == 54.75


async def test_reset_of_a_budget_is_the_end_of_its_day(timed: TimedScripts) -> None:
    limiter, each = RedisLimiter(timed), cost()
    await used(limiter, each, 5)
    assert await reset_of(limiter, each) == END_OF_DAY


async def test_as_many_used_units_as_reserved_ones_have_a_reset(timed: TimedScripts) -> None:
    limiter, each = RedisLimiter(timed), tokens(window=64, units=5)
    await used(limiter, each, 5)
    admission = await admit(limiter, each)
    assert admission is not None
    assert await reset_of(limiter, each) == 65
    admission.release()


async def test_token_counts_until_its_bucket_has_ended(timed: TimedScripts) -> None:
    limiter, each = RedisLimiter(timed), tokens(limit=1000, window=64)
    await used(limiter, each, 100)
    timed.advance(64.5)
    assert await remaining(limiter, each) == [900]
    timed.advance(0.5)
    assert await remaining(limiter, each) == [1000]


async def denied_seconds(limiter: RedisLimiter, each: Charge, units: int) -> float:
    decision = await limiter.acquire([cheaper(each, units)])
    assert decision.denied_by is not None
    return decision.denied_by.reset_seconds


async def test_reserved_units_alone_in_the_way_mean_a_second(timed: TimedScripts) -> None:
    """With those that are used the request would just fit."""
    limiter, each = RedisLimiter(timed), tokens(limit=1000, window=64)
    await used(limiter, each, 400)
    running = await admit(limiter, cheaper(each, 600))
    assert running is not None
    assert await denied_seconds(limiter, each, 600) == 1
    assert await denied_seconds(limiter, each, 601) == 65
    running.release()


async def test_wait_counts_reserved_units_too(timed: TimedScripts) -> None:
    limiter, each = RedisLimiter(timed), tokens(limit=1000, window=64)
    await used(limiter, each, 300)
    timed.advance(10)
    await used(limiter, each, 500)
    running = await admit(limiter, cheaper(each, 200))
    assert running is not None
    assert await denied_seconds(limiter, each, 400) == 65, "the first 300 are too few"
    running.release()
    await settled(limiter)
    assert await denied_seconds(limiter, each, 400) == 55, "and enough without the reserved ones"


async def test_wait_is_for_the_oldest_use_also_if_it_came_last(timed: TimedScripts) -> None:
    """A long request is settled after a short one that began later."""
    limiter, each = RedisLimiter(timed), tokens(limit=1000, window=64)
    long = await admit(limiter, cheaper(each, 500))
    assert long is not None
    timed.advance(10)
    await used(limiter, each, 500)
    long.settle(500, None)
    await settled(limiter)
    assert await denied_seconds(limiter, each, 400) == 55
