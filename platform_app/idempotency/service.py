"""What a key's request is told: go on, here is the answer again, or why not. The policies are stated here, once."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable

from platform_app.errors import (
    Conflict,
    IdempotencyInFlight,
    IdempotencyUnavailable,
    InvalidRequest,
    PlatformError,
    ValidationFailed,
)
from platform_app.idempotency.in_flight import InFlightRequest, Keeping, KeepingPolicy
from platform_app.idempotency.store import (
    Claim,
    Found,
    Holder,
    IdempotencyStore,
    KeepingQuota,
    NoQuota,
    State,
    fingerprint_of,
    record_name,
)
from platform_app.idempotency.stored_response import StoredResponse
from platform_app.observability import ids, metrics
from platform_app.observability.logging import get_logger

HEADER = "Idempotency-Key"
HASH_APART_BYTES = 256 * 1024
"""A larger body is hashed in a thread: ten megabytes take longer than other requests should wait."""

WAIT_SECONDS = 50.0
"""For the response of a request whose client has left. Below 60 s, after which hops on the way often cut a silent
connection; then 409, and the client may ask again."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 0.5
"""Between two looks at the record, which another process may write."""
NOT_KEPT_LOG_SECONDS = 1.0
"""Of one reason at most one line in that time; the counter counts all."""

_log = get_logger("idempotency")


class IdempotencyService:
    """Decides for each request that carries a key."""

    def __init__(self, store: IdempotencyStore, policy: KeepingPolicy, quota: KeepingQuota | None = None) -> None:
        self._store = store
        self._policy = policy
        self._quota = quota or NoQuota()
        self._keeping = Keeping(store, self._quota, policy, self._note_not_kept)
        self._noted: dict[str, float] = {}
        self._down = False
        self._undoing: set[asyncio.Task[bool]] = set()

    async def begin(
        self, holder: Holder, route: str, idempotency_key: str, body: bytes
    ) -> InFlightRequest | StoredResponse:
        """The attempt that must be finished or released, or the response that was given before. Whether its caller may
        have it still is for the caller of this method to check. Waits for a request whose client has left, up to
        WAIT_SECONDS.

        Raises:
            IdempotencyInFlight: another request with this key is being answered.
            ValidationFailed: the key was used for another body.
            Conflict: the response was given, and was not kept: too large, or no room.
            RateLimited: there is no room to remember even that the work was done; it was not begun.
            IdempotencyUnavailable: keys cannot be checked, and the policy is to refuse then.
            InvalidRequest: this platform takes no keys.
        """
        if not self._policy.keep_seconds:
            raise InvalidRequest(f"This platform takes no {HEADER}. Leave the header out.", param=HEADER)
        fingerprint = await _fingerprint(body)
        claim = Claim(record_name(holder, route, idempotency_key), fingerprint, ids.trace_id())
        try:
            found = await self._find(claim)
        except asyncio.CancelledError:  # the client left while its request waited
            self._undo(claim)
            raise
        except IdempotencyUnavailable as error:
            self._note_down(error)
            if self._policy.refuse_when_unavailable:
                self._undo(claim)
                raise
            return InFlightRequest(self._keeping, claim, holder, protected=False)
        self._note_up()
        if found.state is not State.BEGUN:
            return _again(found)
        try:
            self._quota.require_marker(holder)
        except PlatformError:
            self._undo(claim)
            metrics.IDEMPOTENCY.labels("refused").inc()
            raise
        metrics.IDEMPOTENCY.labels("started").inc()
        return InFlightRequest(self._keeping, claim, holder, protected=True)

    async def _find(self, claim: Claim) -> Found:
        """Look the key up. While its request goes on without its client, wait for the end of that: a client that asks
        again after its own timeout has come for that response."""
        found = await self._store.begin(claim, self._policy.lease_seconds)
        if found.state is not State.LEFT:
            return found
        metrics.IDEMPOTENCY.labels("waited").inc()
        loop, pause = asyncio.get_running_loop(), FIRST_PAUSE_SECONDS
        until = loop.time() + WAIT_SECONDS
        while loop.time() < until:
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            # A store that cannot be asked says nothing new: the work may still go on, so none is begun.
            with contextlib.suppress(IdempotencyUnavailable):
                found = await self._store.begin(claim, self._policy.lease_seconds)
                if found.state is not State.LEFT:
                    break
        return found

    async def replay(self, admitted: Awaitable[None]) -> None:
        """Count a response that is given again, or that is refused: `admitted` raises PlatformError then."""
        try:
            await admitted
        except PlatformError:
            metrics.IDEMPOTENCY.labels("replay_refused").inc()
            raise
        metrics.IDEMPOTENCY.labels("replayed").inc()

    def _undo(self, claim: Claim) -> None:
        """Free the key of a request that is refused here; a store that was only slow may have given it."""

        async def release() -> bool:
            try:
                return await self._store.release(claim)
            except IdempotencyUnavailable:
                return False  # the lease ends by itself

        task = asyncio.create_task(release(), name="idempotency-undo")
        self._undoing.add(task)
        task.add_done_callback(self._undoing.discard)

    def _note_not_kept(self, reason: str, holder: Holder) -> None:
        now = time.monotonic()
        if now - self._noted.get(reason, -NOT_KEPT_LOG_SECONDS) >= NOT_KEPT_LOG_SECONDS:
            self._noted[reason] = now
            _log.info("idempotency_response_not_kept", reason=reason, key_id=holder.key_id, owner=holder.owner)

    def _note_down(self, error: IdempotencyUnavailable) -> None:
        metrics.IDEMPOTENCY.labels("unavailable").inc()
        if not self._down:
            self._down = True
            refused = self._policy.refuse_when_unavailable
            _log.warning("idempotency_unavailable", refused=refused, error=type(error.__cause__ or error).__name__)

    def _note_up(self) -> None:
        if self._down:
            self._down = False
            _log.warning("idempotency_recovered")


def _again(found: Found) -> StoredResponse:
    """What a key that is known gets."""
    if found.state is State.OTHER_BODY:
        metrics.IDEMPOTENCY.labels("mismatch").inc()
        raise ValidationFailed(
            f"This {HEADER} was used for a request with another body. Use a new key for a new request.", param=HEADER
        )
    if found.state in (State.IN_FLIGHT, State.LEFT):
        metrics.IDEMPOTENCY.labels("in_flight").inc()
        raise IdempotencyInFlight(
            f"The first request with this {HEADER} is still being answered. Try again shortly for its answer.",
            retry_after=1,
            headers={"x-should-retry": "true"},
            param=HEADER,
        )
    if not found.answer:
        metrics.IDEMPOTENCY.labels("not_kept").inc()
        raise Conflict(
            f"The request with this {HEADER} was answered before, and its response was not kept: it is too large to be "
            "kept, or the room for kept responses was used up. To ask once more, use a new key.",
            param=HEADER,
        )
    return StoredResponse.decode(found.answer)


async def _fingerprint(body: bytes) -> str:
    if len(body) <= HASH_APART_BYTES:
        return fingerprint_of(body)
    return await asyncio.to_thread(fingerprint_of, body)
