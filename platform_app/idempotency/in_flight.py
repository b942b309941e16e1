"""The request that holds an Idempotency-Key: renew its lease, then store the response or release the key."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from platform_app.errors import IdempotencyUnavailable
from platform_app.idempotency.store import NOT_KEPT, Claim, Finish, Holder, IdempotencyStore, StorageQuota
from platform_app.idempotency.stored_response import StoredResponse
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger

LONGEST_SECONDS = 2 * 3600
"""Longest time that a lease is renewed, in case a request is never finished. Deadlines are at most an hour."""

_log = get_logger("idempotency")


@dataclass(frozen=True, slots=True)
class IdempotencyPolicy:
    """How long keys are held and responses stored."""

    keep_seconds: int
    """How long a response is stored; 0 refuses requests with a key."""
    max_bytes: int
    """Largest body that is stored."""
    refuse_when_unavailable: bool = True
    """While the store is unavailable: True refuses requests with a key, False runs them unprotected."""
    lease_seconds: float = 6.0
    """Time after which the keys of a process that died are free. A running process renews three times within it."""


@dataclass(frozen=True, slots=True)
class InFlightContext:
    """What all in-flight requests share: store, quota, policy and background tasks."""

    store: IdempotencyStore
    quota: StorageQuota
    policy: IdempotencyPolicy
    note_not_kept: Callable[[str, Holder], None]
    """Called with the reason and the holder when a response is not stored."""
    finishing: set[asyncio.Task[Any]] = field(default_factory=set)


class InFlightRequest:
    """Holds the key until the first call of `finish` or `release`. Neither raises, and neither waits longer than the
    store does: the client gets its response even if it cannot be stored."""

    def __init__(self, context: InFlightContext, claim: Claim, holder: Holder, *, protected: bool) -> None:
        """`protected`: whether the key is known to be held. If the store was unavailable, the next successful renewal
        takes the key."""
        self._context = context
        self._store = context.store
        self._claim = claim
        self._holder = holder
        self._policy = context.policy
        self._settled = False
        self._client_disconnected = False
        self.protected = protected
        self.max_bytes = context.policy.max_bytes
        self._renewing: asyncio.Task[None] | None = asyncio.create_task(self._keep_holding(), name="idempotency-lease")

    def client_disconnected(self) -> None:
        """Note that the client has disconnected while the work continues, so that a request with the same key waits for
        the response. Returns at once: if the store cannot note it now, the next renewal of the lease does."""
        self._client_disconnected = True
        task = asyncio.create_task(self._renew(), name="idempotency-left")
        self._context.finishing.add(task)
        task.add_done_callback(self._context.finishing.discard)

    async def finish(self, response: StoredResponse) -> None:
        """Store the response, or only a marker if it is too large or does not fit. A client that disconnects meanwhile
        does not stop it."""
        if self._settle():
            task = asyncio.create_task(self._store_response(response), name="idempotency-finish")
            self._context.finishing.add(task)
            task.add_done_callback(self._context.finishing.discard)
            await asyncio.shield(task)

    async def _store_response(self, response: StoredResponse) -> None:
        data, why = response.encode(), None
        if len(response.body) > self._policy.max_bytes:
            why = "too_large"
        elif not await self._context.quota.take_response(self._holder, len(data)):
            why = "over_quota"
        if why is not None:
            data = NOT_KEPT
            await self._context.quota.take_marker(self._holder)
        try:
            finish = await self._store.finish(self._claim, data, self._policy.keep_seconds)
        except IdempotencyUnavailable as error:
            self._unavailable("idempotency_response_not_stored", error)
            return
        if finish is Finish.LOST:
            metrics.IDEMPOTENCY.labels("lost").inc()
            return
        if finish is Finish.NO_ROOM:
            why = "memory_full"
        metrics.IDEMPOTENCY.labels(why or "stored").inc()
        if why is not None:
            self._context.note_not_kept(why, self._holder)

    async def release(self) -> None:
        """Release the key: there is no response to store, and the next request with the key runs."""
        if self._settle():
            try:
                held = await self._store.release(self._claim)
            except IdempotencyUnavailable as error:
                self._unavailable("idempotency_key_not_released", error)
            else:
                metrics.IDEMPOTENCY.labels("released" if held else "lost").inc()

    def _settle(self) -> bool:
        """Return whether this is the first `finish` or `release`. It runs before anything is awaited, so that
        cancelling one of them cannot lead to a second."""
        first, self._settled = not self._settled, True
        if self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None  # its CancelledError refers to this object: a reference cycle
        return first

    async def _keep_holding(self) -> None:
        ends_at = asyncio.get_running_loop().time() + LONGEST_SECONDS
        failing = False
        while asyncio.get_running_loop().time() < ends_at:
            await asyncio.sleep(self._policy.lease_seconds / 3)
            held = await self._renew(quiet=failing)
            if held is False:
                return
            failing = held is None

    async def _renew(self, *, quiet: bool = False) -> bool | None:
        """Return whether the key is held; None if the store is unavailable."""
        try:
            held = await self._store.renew(
                self._claim, self._policy.lease_seconds, client_disconnected=self._client_disconnected
            )
        except IdempotencyUnavailable as error:
            if not quiet:
                self._unavailable("idempotency_lease_not_renewed", error)
            return None
        if held:
            self.protected = True
        elif not self._settled:
            _log.warning("idempotency_lease_lost")  # counted when the request ends
        return held

    def _unavailable(self, event: str, error: IdempotencyUnavailable) -> None:
        metrics.IDEMPOTENCY.labels("unavailable").inc()
        _log.warning(event, error=type(error.__cause__ or error).__name__)
