"""A ScriptClient without a server, for tests of what the limiter sends and of what it makes of each reply."""

import asyncio
from collections.abc import Sequence
from typing import Any

from platform_app.rate_limit.limiters.redis import RedisLimiter
from platform_app.rate_limit.limiters.scripts import ACQUIRE, READ, SETTLE
from platform_app.redis.scripts import Script

AT = 1_790_000_000_000_000
"""The time of every decision."""


class NotedScripts:
    """Notes each call. Its reply is the next one of `replies`: a result, an exception, or a future, so that the test
    decides when the call ends. Without a next one, every limit has room for five more."""

    def __init__(self) -> None:
        self.calls: list[tuple[Script, list[str], list[Any]]] = []
        self.replies: dict[Script, list[Any]] = {}

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int | bytes]) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.calls.append((script, list(keys), list(arguments)))
        reply = self.replies[script].pop(0) if self.replies.get(script) else _room(script, len(keys))
        if isinstance(reply, asyncio.Future):
            return reply
        if isinstance(reply, BaseException):
            future.set_exception(reply)
        else:
            future.set_result(reply)
        return future

    def sent(self, script: Script) -> list[tuple[list[str], list[Any]]]:
        """Return keys and arguments of each call of a script, without the three arguments that all scripts share."""
        return [(keys, arguments[3:]) for each, keys, arguments in self.calls if each is script]

    def settled(self) -> list[tuple[list[str], list[Any]]]:
        """Return keys of each settlement, and its arguments after the time of the decision."""
        sent = self.sent(SETTLE)
        assert all(arguments[0] == AT for _, arguments in sent)
        return [(keys, arguments[1:]) for keys, arguments in sent]

    def holders(self, script: Script = ACQUIRE) -> list[str]:
        """Return the holder id of each call of a script."""
        return [arguments[1] for each, _, arguments in self.calls if each is script]


def _room(script: Script, counters: int) -> Any:
    return [0, AT, *[5, 1_000_000] * counters] if script in (ACQUIRE, READ) else counters


async def callbacks() -> None:
    """Let the callbacks of ended calls run."""
    for _ in range(3):
        await asyncio.sleep(0)


def noted(**options: bool) -> tuple[RedisLimiter, NotedScripts]:
    """Return a limiter with these options, and the scripts that it runs."""
    scripts = NotedScripts()
    return RedisLimiter(scripts, **options), scripts  # type: ignore[arg-type]
