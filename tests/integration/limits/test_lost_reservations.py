"""Reservations after a failure: a process that died, a server that lost data, a call without a response."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from redis.asyncio import Redis

from platform_app.errors import LimiterUnavailable
from platform_app.rate_limit.limiters.redis import RedisLimiter
from platform_app.rate_limit.reservations import RESERVATION_SECONDS
from platform_app.redis.client import PipelinedRedis
from platform_app.redis.scripts import Script
from tests.support.fakes.core import Count
from tests.support.limits.limiter import (
    TimedScripts,
    admit,
    lease,
    remaining,
    settled,
    tokens,
)


async def test_reservations_of_killed_process_expire(timed: TimedScripts) -> None:
    dead, alive, each, slot = RedisLimiter(timed), RedisLimiter(timed), tokens(units=1000), lease(limit=1)
    lost = await admit(dead, each, slot)
    assert lost is not None
    dead._reservations._units.clear()  # as if the process were killed: nothing is renewed
    timed.advance(RESERVATION_SECONDS - 1)
    assert await admit(alive, each, slot) is None
    timed.advance(1.1)
    assert await remaining(alive, each, slot) == [1000, 1]
    admission = await admit(alive, each, slot)
    assert admission is not None
    admission.release()
    lost.release()  # too late: nothing of it is let go twice
    await settled(alive)
    await settled(dead)
    assert await remaining(alive, each, slot) == [1000, 1]


async def test_renewed_reservations_do_not_expire(timed: TimedScripts) -> None:
    limiter, other, each, slot = RedisLimiter(timed), RedisLimiter(timed), tokens(units=1000), lease(limit=1)
    admission = await admit(limiter, each, slot)
    assert admission is not None
    for _ in range(30):
        timed.advance(RESERVATION_SECONDS - 1)
        assert await limiter.renew_now()
        assert await admit(other, each) is None
        assert await admit(other, slot) is None
    admission.release()
    await settled(limiter)
    assert await remaining(other, each, slot) == [1000, 1]


async def test_renewals_keep_the_sum_of_all_reservations(timed: TimedScripts) -> None:
    processes, each = [RedisLimiter(timed), RedisLimiter(timed)], tokens(limit=1000, units=100)
    held = [await admit(limiter, each) for limiter in processes]
    for _ in range(3):
        timed.advance(RESERVATION_SECONDS / 2)
        assert [await limiter.renew_now() for limiter in processes] == [True, True]
        assert await remaining(processes[0], each) == [800]
    for admission in held:
        assert admission is not None
        admission.release()
    for limiter in processes:
        await settled(limiter)


@pytest.mark.parametrize("by", ["renewal", "request"])
async def test_lost_reservations_are_restored(scripts: PipelinedRedis, redis: "Redis", by: str) -> None:
    limiter, slot = RedisLimiter(scripts), lease(limit=3)
    held = [await admit(limiter, slot), await admit(limiter, slot)]
    await redis.delete(slot.counter)
    if by == "renewal":
        assert await limiter.renew_now()
    else:
        held.append(await admit(limiter, slot))
    assert await remaining(limiter, slot) == [3 - len(held)]
    for admission in held:
        assert admission is not None
        admission.release()
    await settled(limiter)
    assert await remaining(limiter, slot) == [3]
    assert await redis.exists(slot.counter) == 0, "nothing is left behind"


async def test_lost_reservation_is_not_released_twice(scripts: PipelinedRedis, redis: "Redis") -> None:
    limiter, other, slot = RedisLimiter(scripts), RedisLimiter(scripts), lease(limit=3)
    admission = await admit(limiter, slot)
    assert admission is not None
    await redis.delete(slot.counter)
    others = await admit(other, slot)
    admission.release()
    await settled(limiter)
    assert await remaining(other, slot) == [2]
    assert others is not None
    others.release()
    await settled(other)


@pytest.mark.parametrize("flushed", [False, True], ids=["known", "unknown script"])
async def test_cancelled_request_reserves_nothing(scripts: PipelinedRedis, redis: "Redis", flushed: bool) -> None:
    limiter, slot = RedisLimiter(scripts), lease(limit=1)
    assert await remaining(limiter, slot) == [1]  # connected
    for turns in (1, 2, 3, 2, 2) * 4:
        if flushed:
            await redis.script_flush()
        asking = asyncio.create_task(limiter.acquire([slot]))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await settled(limiter)
        assert await remaining(limiter, slot) == [1]
        assert not limiter._reservations.counters()


async def test_dropped_admission_is_settled(scripts: PipelinedRedis) -> None:
    limiter, slot = RedisLimiter(scripts), lease(limit=1)
    assert await admit(limiter, slot) is not None  # and drops the admission
    await settled(limiter)
    assert await remaining(limiter, slot) == [1]


class Lossy:
    """A ScriptClient that loses the responses to as many calls as `lose` says."""

    def __init__(self, client: PipelinedRedis) -> None:
        self._client = client
        self.lose = 0

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int | bytes]) -> "asyncio.Future[Any]":
        lost, self.lose = self.lose > 0, max(0, self.lose - 1)
        call = self._client.run(script, keys, arguments)
        return asyncio.ensure_future(self._lose(call)) if lost else call

    async def _lose(self, call: "asyncio.Future[Any]") -> None:
        await call
        raise TimeoutError


async def test_reservations_of_lost_calls_end_and_known_ones_stay(scripts: PipelinedRedis, redis: "Redis") -> None:
    """After an uncertain call the process continues with a new holder id and moves known reservations to it."""
    lossy = Lossy(scripts)
    limiter, each, slot = RedisLimiter(lossy), tokens(limit=1000, units=100), lease(limit=10)
    known = await admit(limiter, each, slot)
    assert known is not None
    for _ in range(3):
        lossy.lose = 1
        with pytest.raises(LimiterUnavailable):
            await limiter.acquire([each, slot])
    assert await limiter.renew_now()
    fields = {name for name in await redis.hkeys(slot.counter) if name not in (b"H", b"E")}
    assert fields == {f"p{limiter._reservations.current_holder}".encode()}, "the former names' holds went"
    assert await remaining(limiter, each, slot) == [900, 9]
    known.settle(0, None)
    await settled(limiter)
    assert await remaining(limiter, each, slot) == [1000, 10]


async def test_failed_settlement_is_counted(scripts: PipelinedRedis) -> None:
    lossy = Lossy(scripts)
    limiter, slot, failed = (
        RedisLimiter(lossy),
        lease(),
        Count("platform_limiter_settlements_total", outcome="failed"),
    )
    admission = await admit(limiter, slot)
    assert admission is not None
    lossy.lose = 1
    admission.release()
    await settled(limiter)
    assert failed.grown == 1
    assert await remaining(limiter, slot) == [10]
