"""What a limiter does about calls on their way when it is closed."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from platform_app.rate_limit.limiters.redis import CLOSE_SECONDS, RedisLimiter
from platform_app.rate_limit.limiters.scripts import ACQUIRE
from platform_app.redis.scripts import Script
from tests.support.limits.limiter import lease
from tests.support.timing.virtual_time import now, virtual_time


class SlowScripts:
    """A ScriptClient that responds after `seconds`; `running` lists the calls without a response."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.running: list[Script] = []
        self.ran: list[Script] = []

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int | bytes]) -> "asyncio.Future[Any]":
        self.running.append(script)
        self.ran.append(script)
        return asyncio.ensure_future(self._respond(script))

    async def _respond(self, script: Script) -> object:
        await asyncio.sleep(self._seconds)
        self.running.remove(script)
        return [0, 0, 0, 0] if script is ACQUIRE else 1


async def _give_up(limiter: RedisLimiter) -> None:
    asking = asyncio.create_task(limiter.acquire([lease()]))
    await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


@virtual_time
async def test_close_waits_for_cancelled_request_and_settlement() -> None:
    """A call that outlives its client opens a connection that nothing closes."""
    scripts = SlowScripts(0.3)
    limiter = RedisLimiter(scripts)
    await _give_up(limiter)
    await limiter.aclose()
    assert scripts.running == []
    assert len(scripts.ran) == 2, "what the given up request got was returned"
    assert limiter._reservations.counters() == []


@virtual_time
async def test_close_with_frozen_server_ends_after_its_bound() -> None:
    limiter = RedisLimiter(SlowScripts(60))
    await _give_up(limiter)
    started = now()
    await limiter.aclose()
    assert now() - started == pytest.approx(CLOSE_SECONDS)
