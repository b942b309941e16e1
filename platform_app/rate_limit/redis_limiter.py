"""The limiter on Redis or Valkey: one script call for all rules of a request (sliding_window.lua)."""

import hashlib
import time
from collections.abc import Awaitable, Sequence
from importlib.resources import files
from typing import Any, Protocol

from redis.exceptions import NoScriptError, RedisError

from platform_app.errors import LimiterUnavailable
from platform_app.observability import metrics
from platform_app.rate_limit.limiter import Decision, RuleState
from platform_app.rate_limit.rules import Charge

BUCKETS = 64
"""Buckets per window: a unit counts for at most 1/64 of a window too long, so 1.6 % early at worst."""

SCRIPT = (files("platform_app.rate_limit") / "sliding_window.lua").read_text(encoding="utf-8")
_SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()


class ScriptClient(Protocol):
    """What runs scripts: ScriptPipe, or redis-py's own client."""

    def evalsha(self, sha: str, numkeys: int, *keys_and_args: str | int) -> Awaitable[Any]:
        """Run a script that the server knows; raises NoScriptError where it does not."""
        ...

    def eval(self, script: str, numkeys: int, *keys_and_args: str | int) -> Awaitable[Any]:
        """Run a script, which the server then knows."""
        ...


class RedisLimiter:
    """Exact across processes: the server's clock, one atomic script, nothing kept here."""

    def __init__(self, redis: ScriptClient) -> None:
        self._redis = redis

    async def acquire(self, charges: Sequence[Charge]) -> Decision:
        """See RateLimiter.acquire; how long it may take is up to the client."""
        keys = [charge.counter for charge in charges]
        arguments: list[int] = [BUCKETS]
        for charge in charges:
            arguments += (charge.rule.limit, charge.rule.window_seconds * 1_000_000, charge.cost)
        started = time.perf_counter()
        try:
            answer = await self._call(keys, arguments)
        except (RedisError, OSError, TimeoutError) as error:
            raise LimiterUnavailable(
                "The rate limiter cannot be reached right now. Try again shortly.", retry_after=1
            ) from error
        metrics.LIMITER_SECONDS.observe(time.perf_counter() - started)
        return _decision(charges, answer)

    async def _call(self, keys: list[str], arguments: list[int]) -> list[int]:
        try:
            answer: list[int] = await self._redis.evalsha(_SHA, len(keys), *keys, *arguments)
        except NoScriptError:  # a new or flushed server; EVAL also loads the script
            answer = await self._redis.eval(SCRIPT, len(keys), *keys, *arguments)
        return answer

    async def aclose(self) -> None:
        """The client belongs to whoever opened it."""


def _decision(charges: Sequence[Charge], answer: list[int]) -> Decision:
    states = tuple(
        RuleState(charge.rule, answer[2 * index + 1], answer[2 * index + 2] / 1e6)
        for index, charge in enumerate(charges)
    )
    return Decision(states, states[answer[0] - 1] if answer[0] else None)
