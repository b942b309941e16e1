"""Store Idempotency-Keys in Redis or Valkey: each method is one call of record.lua."""

from importlib.resources import files

from redis.exceptions import OutOfMemoryError

from platform_app.errors import IdempotencyUnavailable
from platform_app.idempotency.store import NOT_KEPT, Claim, Finish, Found, State
from platform_app.redis.failures import REDIS_ERRORS
from platform_app.redis.scripts import Script, ScriptClient, make_script

_TEXT = (files("platform_app.idempotency") / "record.lua").read_text(encoding="utf-8")
STORE_RESPONSE = make_script(_TEXT)
"""Stores responses. A server without free memory refuses it."""
STORE_MARKER = make_script("#!lua flags=allow-oom\n" + _TEXT)
"""Stores leases and markers, also while the server has no free memory: requests with keys still work."""
ACCEPTS_WRITES = make_script("#!lua flags=allow-oom\nreturn 1")
"""Does nothing; a server that refuses writes refuses it too, because its flags do not exclude writes."""
KEEP_BELOW_PERCENT = 80
"""Percentage of the server's maxmemory above which no response is stored, which leaves room for its other users."""


class RedisIdempotencyStore:
    """See IdempotencyStore. Leases use the server's clock; this object has no state."""

    def __init__(self, redis: ScriptClient) -> None:
        self._redis = redis

    async def begin(self, claim: Claim, lease_seconds: float) -> Found:
        """See IdempotencyStore."""
        state, *response = await self._call("begin", claim, _milliseconds(lease_seconds))
        return Found(State(state.decode()), response[0] if response else b"")

    async def renew(self, claim: Claim, lease_seconds: float, *, client_disconnected: bool = False) -> bool:
        """See IdempotencyStore."""
        return await self._held("leave" if client_disconnected else "renew", claim, _milliseconds(lease_seconds))

    async def finish(self, claim: Claim, response: bytes, keep_seconds: int) -> Finish:
        """See IdempotencyStore."""
        arguments = ("finish", claim, _milliseconds(keep_seconds))
        try:
            script = STORE_RESPONSE if response else STORE_MARKER
            state, *_ = await self._call(*arguments, response, KEEP_BELOW_PERCENT, script=script)
        except IdempotencyUnavailable as error:
            if not isinstance(error.__cause__, OutOfMemoryError):
                raise
            state, *_ = await self._call(*arguments, NOT_KEPT, KEEP_BELOW_PERCENT)
            return Finish.NO_ROOM if state == b"held" else Finish(state.decode())
        return Finish(state.decode())

    async def release(self, claim: Claim) -> bool:
        """See IdempotencyStore."""
        return await self._held("release", claim)

    async def check(self) -> None:
        """Return if requests with a key can be processed now, on the connection that they use.

        Raises:
            REDIS_ERRORS: they cannot.
        """
        await self._redis.run(ACCEPTS_WRITES, ["fbp:idem:2:{probe}"], [])

    async def _held(self, verb: str, claim: Claim, *arguments: int | bytes) -> bool:
        state, *_ = await self._call(verb, claim, *arguments)
        return bool(state == b"held")

    async def _call(
        self, verb: str, claim: Claim, *arguments: int | bytes, script: Script = STORE_MARKER
    ) -> list[bytes]:
        given = (verb, claim.fingerprint, claim.owner, *arguments)
        try:
            result: list[bytes] = await self._redis.run(script, [claim.record], given)
        except REDIS_ERRORS as error:
            raise IdempotencyUnavailable(
                "Idempotency keys cannot be checked right now, so nothing was done. Try again shortly, or without "
                "the header Idempotency-Key.",
                retry_after=1,
            ) from error
        return result


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
