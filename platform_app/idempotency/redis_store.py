"""Idempotency-Keys in Redis or Valkey: one script, one round trip for each step (record.lua)."""

import hashlib
from collections.abc import Awaitable
from importlib.resources import files
from typing import Any, Protocol

from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError

from platform_app.errors import IdempotencyUnavailable
from platform_app.idempotency.store import NOT_KEPT, Claim, Finish, Found, State

_TEXT = (files("platform_app.idempotency") / "record.lua").read_text(encoding="utf-8")
LARGE_SCRIPT = _TEXT
"""Stores responses: a server without memory refuses it."""
SMALL_SCRIPT = "#!lua flags=allow-oom\n" + _TEXT
"""Stores leases and markers, also while the server's memory is full: requests with keys work on."""
_SHAS = {text: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() for text in (LARGE_SCRIPT, SMALL_SCRIPT)}
KEEP_BELOW_PERCENT = 80
"""Of the server's maxmemory: above it no response is kept, so that whatever shares the server has room."""


class ScriptClient(Protocol):
    """What runs scripts, and gives up in time by itself."""

    def evalsha(self, sha: str, numkeys: int, *keys_and_args: str | int | bytes) -> Awaitable[Any]:
        """Run a script that the server knows; raises NoScriptError where it does not."""
        ...

    def eval(self, script: str, numkeys: int, *keys_and_args: str | int | bytes) -> Awaitable[Any]:
        """Run a script, which the server then knows."""
        ...


class RedisIdempotencyStore:
    """See IdempotencyStore. The clock is the server's, nothing is kept here."""

    def __init__(self, redis: ScriptClient) -> None:
        self._redis = redis

    async def begin(self, claim: Claim, lease_seconds: float) -> Found:
        """See IdempotencyStore."""
        state, *answer = await self._call("begin", claim, _milliseconds(lease_seconds))
        return Found(State(state.decode()), answer[0] if answer else b"")

    async def renew(self, claim: Claim, lease_seconds: float, *, client_left: bool = False) -> bool:
        """See IdempotencyStore."""
        return await self._held("leave" if client_left else "renew", claim, _milliseconds(lease_seconds))

    async def finish(self, claim: Claim, answer: bytes, keep_seconds: int) -> Finish:
        """See IdempotencyStore."""
        arguments = ("finish", claim, _milliseconds(keep_seconds))
        try:
            script = LARGE_SCRIPT if answer else SMALL_SCRIPT
            state, *_ = await self._call(*arguments, answer, KEEP_BELOW_PERCENT, script=script)
        except IdempotencyUnavailable as error:
            if not isinstance(error.__cause__, OutOfMemoryError):
                raise
            state, *_ = await self._call(*arguments, NOT_KEPT, KEEP_BELOW_PERCENT)
            return Finish.NO_ROOM if state == b"held" else Finish(state.decode())
        return Finish(state.decode())

    async def release(self, claim: Claim) -> bool:
        """See IdempotencyStore."""
        return await self._held("release", claim)

    async def _held(self, verb: str, claim: Claim, *arguments: int | bytes) -> bool:
        state, *_ = await self._call(verb, claim, *arguments)
        return bool(state == b"held")

    async def _call(self, verb: str, claim: Claim, *arguments: int | bytes, script: str = SMALL_SCRIPT) -> list[bytes]:
        given = (claim.record, verb, claim.fingerprint, claim.owner, *arguments)
        try:
            try:
                answer: list[bytes] = await self._redis.evalsha(_SHAS[script], 1, *given)
            except NoScriptError:  # a new or flushed server; EVAL also loads the script
                answer = await self._redis.eval(script, 1, *given)
        except (RedisError, OSError, TimeoutError) as error:
            raise IdempotencyUnavailable(
                "Idempotency keys cannot be checked right now, so nothing was done. Try again shortly, or without "
                "the header Idempotency-Key.",
                retry_after=1,
            ) from error
        return answer


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
