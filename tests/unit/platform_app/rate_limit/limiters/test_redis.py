"""What a limiter does about calls on their way when it is closed."""

import asyncio
from typing import Any

import pytest

from platform_app.rate_limit.limiters.redis import CLOSE_SECONDS, RedisLimiter
from platform_app.rate_limit.limiters.scripts import ACQUIRE
from tests.support.limits.limiter import lease
from tests.support.timing.virtual_time import now, virtual_time


class SlowScripts:
    """Responds to each command after `seconds`; `running` names those without a response yet."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.running: list[str] = []
        self.ran: list[str] = []

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: str | int) -> Any:
        self.running.append(sha)
        self.ran.append(sha)
        await asyncio.sleep(self._seconds)
        self.running.remove(sha)
        return [0, 0, 0, 0] if sha == ACQUIRE.sha else 1

    async def eval(self, script: str, numkeys: int, *keys_and_args: str | int) -> Any:
        raise AssertionError("every script is known")


async def _give_up(limiter: RedisLimiter) -> None:
    asking = asyncio.create_task(limiter.acquire([lease()]))
    await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


@virtual_time
async def test_close_waits_for_given_up_request_and_its_settlement() -> None:
    """A call that outlives its client opens a connection that nothing closes."""
    scripts = SlowScripts(0.3)
    limiter = RedisLimiter(scripts)
    await _give_up(limiter)
    await limiter.aclose()
    assert scripts.running == []
    assert len(scripts.ran) == 2, "what the given up request got was returned"
    assert limiter._holds.counters() == []


@virtual_time
async def test_close_with_silent_server_ends_after_its_bound() -> None:
    limiter = RedisLimiter(SlowScripts(60))
    await _give_up(limiter)
    started = now()
    await limiter.aclose()
    assert now() - started == pytest.approx(CLOSE_SECONDS)
