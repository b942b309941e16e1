"""The exact replies of the scripts: which rule denies, what remains, and which budgets must be seeded first."""

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from platform_app.rate_limit.limiters.redis import RedisLimiter
from platform_app.rate_limit.limiters.scripts import ACQUIRE, READ, SETTLE
from platform_app.rate_limit.matching import Charge
from tests.support.limits.limiter import SECOND, TimedScripts, charge, cost, lease, settled, tokens

if TYPE_CHECKING:
    from redis.asyncio import Redis

HEAD: list[str | int] = [64, "holder", 20_000]


async def test_first_rule_without_room_denies(timed: TimedScripts) -> None:
    limiter = RedisLimiter(timed)
    free, full, also_full = charge(limit=3), charge(limit=1), charge(limit=1)
    await limiter.acquire([full, also_full])
    denied = await limiter.acquire([free, full, also_full])
    assert denied.denied_by is denied.states[1]
    assert [state.remaining for state in denied.states] == [3, 0, 0], "no rule was charged"


@pytest.mark.parametrize("each", [charge(limit=9), tokens(limit=9), cost(limit=9), lease(limit=9)])
async def test_unused_limit_has_no_wait(timed: TimedScripts, each: Charge) -> None:
    [state] = await RedisLimiter(timed).read([each])
    assert (state.remaining, state.reset_seconds) == (9, 0.0)


@pytest.mark.parametrize("each", [charge(limit=9), tokens(limit=900), cost(limit=900), lease(limit=9)])
async def test_read_returns_what_the_decision_did(timed: TimedScripts, each: Charge) -> None:
    limiter = RedisLimiter(timed)
    decision = await limiter.acquire([each])
    assert await limiter.read([each]) == decision.states
    assert decision.states[0].reset_seconds > 0
    decision.admission.release()
    await settled(limiter)


async def test_lowered_limit_has_nothing_left(timed: TimedScripts) -> None:
    """Not less than nothing, although more was used than it allows now."""
    limiter, each = RedisLimiter(timed), charge(limit=10, units=5)
    await limiter.acquire([each])
    lowered = replace(each, rule=replace(each.rule, limit=3))
    assert [state.remaining for state in await limiter.read([lowered])] == [0]
    assert [state.remaining for state in (await limiter.acquire([lowered])).states] == [0]
    shadow = replace(each, rule=replace(each.rule, limit=3, shadow=True))
    [state] = (await limiter.acquire([shadow])).states
    assert (state.remaining, state.shadow_denied) == (0, True)


async def test_counters_to_seed_are_returned_first(timed: TimedScripts) -> None:
    """With the units that they have, and with nothing charged."""
    limiter, new, known = RedisLimiter(timed), cost(limit=100), cost(limit=100)
    (await limiter.acquire([replace(known, units=30)])).admission.settle(None, 30)
    await settled(limiter)
    times = new.rule.script_time()

    async def acquire(*seeding: int, units: int = 10) -> list[int]:
        arguments = [[4, 100, units, 0, each, *times] for each in seeding]
        names = [new.counter, known.counter]
        reply: list[int] = await timed.run(ACQUIRE, names, [*HEAD, *(number for each in arguments for number in each)])
        return reply

    start = times[1]
    assert await acquire(1, 1) == [-1, timed.now, 1, 0, start, 2, 30, start]
    assert await acquire(0, 2) == [-1, timed.now, 2, 30, start]
    assert (await acquire(1, 1, units=71))[0] == 2, "a denial needs no seed"
    rules = [number for _ in range(2) for number in (4, 100, *times)]
    read = await timed.run(READ, [new.counter, known.counter], [*HEAD, *rules])
    assert [*read[:3], read[4], *read[6:]] == [0, timed.now, 100, 70, 1, 0, start, 2, 30, start]
    assert (await acquire(0, 0))[0] == 0


@pytest.mark.parametrize(
    ("at", "start"), [(1000, 1000), (1999, 1000), (2000, 2000), (3999, 3000), (4000, 3000), (9000, 3000), (500, 1000)]
)
async def test_time_belongs_to_its_period_or_the_nearest(
    timed: TimedScripts, redis: "Redis", at: int, start: int
) -> None:
    """The process names three periods, which begin at 1000, 2000 and 3000 s; its clock and the server's may differ."""
    timed.now = at * SECOND
    each = cost()
    periods = [second * SECOND for second in (1000, 2000, 3000, 4000)]
    await timed.run(ACQUIRE, [each.counter], [*HEAD, 4, 100, 10, 0, 0, *periods])
    await timed.run(SETTLE, [each.counter], [*HEAD, at * SECOND, 4, 10, 5, *periods])
    assert await redis.hget(each.counter, "h") == str(start * SECOND).encode()
