"""Decide about each request with an Idempotency-Key: run it, replay the stored response, wait, or refuse."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable

from platform_app.connection_failures import Failure
from platform_app.errors import (
    Conflict,
    IdempotencyInFlight,
    IdempotencyUnavailable,
    InvalidRequest,
    PlatformError,
    ValidationFailed,
)
from platform_app.idempotency.in_flight import IdempotencyPolicy, InFlightContext, InFlightRequest
from platform_app.idempotency.store import (
    Claim,
    Found,
    Holder,
    IdempotencyStore,
    State,
    StorageQuota,
    UnlimitedQuota,
    fingerprint_of,
    record_name,
)
from platform_app.idempotency.stored_response import StoredResponse
from platform_app.observability import ids, metrics
from platform_app.observability.logging import get_logger
from platform_app.redis.failures import IDEMPOTENCY_SETTING, redis_failure

HEADER = "Idempotency-Key"
HASH_APART_BYTES = 256 * 1024
"""Larger bodies are hashed in a thread: ten megabytes would block the event loop for too long."""

WAIT_SECONDS = 50.0
"""Longest wait for the response of a request whose client has disconnected, then 409. It is below 60 s, after which
proxies often close an idle connection."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 0.5
"""Pauses between two reads of the record, which another process may write."""
NOT_KEPT_LOG_SECONDS = 1.0
"""At most one log line per reason in this time; the metric counts all."""

_log = get_logger("idempotency")


class IdempotencyService:
    """Decides about requests with a key."""

    def __init__(self, store: IdempotencyStore, policy: IdempotencyPolicy, quota: StorageQuota | None = None) -> None:
        self._store = store
        self._policy = policy
        self._quota = quota or UnlimitedQuota()
        self._context = InFlightContext(store, self._quota, policy, self._note_not_kept)
        self._noted: dict[str, float] = {}
        self._down = False
        self._undoing: set[asyncio.Task[None]] = set()

    async def begin(
        self, holder: Holder, route: str, idempotency_key: str, body: bytes
    ) -> InFlightRequest | StoredResponse:
        """Return the in-flight request, which must be finished or released, or the stored response. The caller of this
        method checks whether the client may still have the response. Waits up to WAIT_SECONDS for a request whose
        client has disconnected.

        Raises:
            IdempotencyInFlight: another request with this key is running.
            ValidationFailed: the key was used for another body.
            Conflict: the work was done, but its response was not stored: it was too large or did not fit.
            RateLimited: there is no room even for a marker; the work was not begun.
            IdempotencyUnavailable: the store is unavailable, and the policy is to refuse.
            InvalidRequest: this platform accepts no keys.
        """
        if not self._policy.keep_seconds:
            raise InvalidRequest(f"This platform does not support {HEADER}. Leave the header out.", param=HEADER)
        fingerprint = await _fingerprint(body)
        claim = Claim(record_name(holder, route, idempotency_key), fingerprint, ids.trace_id())
        try:
            found = await self._find(claim)
        except asyncio.CancelledError:  # the client disconnected while its request waited
            self._undo(claim)
            raise
        except IdempotencyUnavailable as error:
            self._note_down(error)
            if self._policy.refuse_when_unavailable:
                self._undo(claim)
                raise
            return InFlightRequest(self._context, claim, holder, protected=False)
        self._note_up()
        if found.state is not State.STARTED:
            return _replay(found)
        try:
            self._quota.require_marker(holder)
        except PlatformError:
            self._undo(claim)
            metrics.IDEMPOTENCY.labels("refused").inc()
            raise
        metrics.IDEMPOTENCY.labels("started").inc()
        return InFlightRequest(self._context, claim, holder, protected=True)

    async def _find(self, claim: Claim) -> Found:
        """Look the key up. If its request still runs without its client, wait for it to end: a client that retries
        after its own timeout wants that response."""
        found = await self._store.begin(claim, self._policy.lease_seconds)
        if found.state is not State.CLIENT_DISCONNECTED:
            return found
        metrics.IDEMPOTENCY.labels("waited").inc()
        loop, pause = asyncio.get_running_loop(), FIRST_PAUSE_SECONDS
        until = loop.time() + WAIT_SECONDS
        while loop.time() < until:
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            # An unavailable store changes nothing: the work may still run, so no second one is begun.
            with contextlib.suppress(IdempotencyUnavailable):
                found = await self._store.begin(claim, self._policy.lease_seconds)
                if found.state is not State.CLIENT_DISCONNECTED:
                    break
        return found

    async def replay(self, admitted: Awaitable[None]) -> None:
        """Count a replayed response, or a refused replay: then `admitted` raises PlatformError."""
        try:
            await admitted
        except PlatformError:
            metrics.IDEMPOTENCY.labels("replay_refused").inc()
            raise
        metrics.IDEMPOTENCY.labels("replayed").inc()

    def _undo(self, claim: Claim) -> None:
        """Release the key of a refused request: a store that was only slow may have taken it."""

        async def release() -> None:
            with contextlib.suppress(IdempotencyUnavailable):  # the lease expires
                await self._store.release(claim)

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
            _log.warning("idempotency_unavailable", refused=refused, error=str(_cause(error)))

    def _note_up(self) -> None:
        if self._down:
            self._down = False
            _log.warning("idempotency_recovered")


def _cause(error: IdempotencyUnavailable) -> Failure:
    return redis_failure(error.__cause__ or error, IDEMPOTENCY_SETTING)


def _replay(found: Found) -> StoredResponse:
    """Return the stored response of a known key, or raise the reason why there is none."""
    if found.state is State.OTHER_BODY:
        metrics.IDEMPOTENCY.labels("mismatch").inc()
        raise ValidationFailed(
            f"This {HEADER} was used for a request with another body. Use a new key for a new request.", param=HEADER
        )
    if found.state in (State.IN_FLIGHT, State.CLIENT_DISCONNECTED):
        metrics.IDEMPOTENCY.labels("in_flight").inc()
        raise IdempotencyInFlight(
            f"The first request with this {HEADER} is still running. Try again shortly for its response.",
            retry_after=1,
            param=HEADER,
        )
    if not found.response:
        metrics.IDEMPOTENCY.labels("not_kept").inc()
        raise Conflict(
            f"The request with this {HEADER} was completed, but its response was not stored: it was too large, or "
            "the quota for stored responses was used up. To repeat the request, use a new key.",
            param=HEADER,
        )
    return StoredResponse.decode(found.response)


async def _fingerprint(body: bytes) -> str:
    if len(body) <= HASH_APART_BYTES:
        return fingerprint_of(body)
    return await asyncio.to_thread(fingerprint_of, body)
