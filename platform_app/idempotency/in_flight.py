"""One request's work under an Idempotency-Key, from holding the key to keeping its answer or letting go."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from platform_app.errors import IdempotencyUnavailable
from platform_app.idempotency.store import NOT_KEPT, Claim, Finish, Holder, IdempotencyStore, KeepingQuota
from platform_app.idempotency.stored_response import StoredResponse
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger

LONGEST_SECONDS = 2 * 3600
"""A bound, should anything be forgotten. No request takes longer: its deadline is an hour at most."""

_log = get_logger("idempotency")


@dataclass(frozen=True, slots=True)
class KeepingPolicy:
    """How long a key is held and its answer kept."""

    keep_seconds: int
    """Of an answer; 0: no keys are taken at all."""
    max_bytes: int
    """Of a body that is kept."""
    refuse_when_unavailable: bool = True
    """Whether a request with a key is refused while keys cannot be checked, or goes on unprotected."""
    lease_seconds: float = 6.0
    """What a process that died leaves behind: its keys are free after this. A live one renews it three times over."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where an attempt's response goes, and how much room there is."""

    store: IdempotencyStore
    quota: KeepingQuota
    policy: KeepingPolicy
    note_not_kept: Callable[[str, Holder], None]
    """Is told the reason, and whose response it was."""
    finishing: set[asyncio.Task[Any]] = field(default_factory=set)


class InFlightRequest:
    """Holds the key until `finish` or `release`, of which the first counts. Neither raises, and neither waits longer
    than the store does: an answer is not withheld because it cannot be kept."""

    def __init__(self, keeping: Keeping, claim: Claim, holder: Holder, *, protected: bool) -> None:
        """`protected`: whether the key is known to be held. Where the store could not be asked, renewing takes hold of
        it as soon as it can."""
        self._keeping = keeping
        self._store = keeping.store
        self._claim = claim
        self._holder = holder
        self._policy = keeping.policy
        self._settled = False
        self._left = False
        self.protected = protected
        self.max_bytes = keeping.policy.max_bytes
        self._renewing: asyncio.Task[None] | None = asyncio.create_task(self._keep_holding(), name="idempotency-lease")

    def client_left(self) -> None:
        """Note that the client has left and the work goes on, so that whoever asks with the key waits for it. Does not
        wait: where it cannot be noted at once, the next renewal of the lease does it."""
        self._left = True
        task = asyncio.create_task(self._renew(), name="idempotency-left")
        self._keeping.finishing.add(task)
        task.add_done_callback(self._keeping.finishing.discard)

    async def finish(self, answer: StoredResponse) -> None:
        """Keep the response; where it is too large or there is no room for it, that it was given. A client that leaves
        meanwhile does not undo it."""
        if self._settle():
            task = asyncio.create_task(self._keep(answer), name="idempotency-finish")
            self._keeping.finishing.add(task)
            task.add_done_callback(self._keeping.finishing.discard)
            await asyncio.shield(task)

    async def _keep(self, answer: StoredResponse) -> None:
        data, why = answer.encode(), None
        if len(answer.body) > self._policy.max_bytes:
            why = "too_large"
        elif not await self._keeping.quota.take_response(self._holder, len(data)):
            why = "over_quota"
        if why is not None:
            data = NOT_KEPT
            await self._keeping.quota.take_marker(self._holder)
        try:
            finish = await self._store.finish(self._claim, data, self._policy.keep_seconds)
        except IdempotencyUnavailable as error:
            self._unavailable("idempotency_answer_not_kept", error)
            return
        if finish is Finish.LOST:
            metrics.IDEMPOTENCY.labels("lost").inc()
            return
        if finish is Finish.NO_ROOM:
            why = "memory_full"
        metrics.IDEMPOTENCY.labels(why or "stored").inc()
        if why is not None:
            self._keeping.note_not_kept(why, self._holder)

    async def release(self) -> None:
        """Let go of the key: there is no answer that the next request could be given."""
        if self._settle():
            try:
                held = await self._store.release(self._claim)
            except IdempotencyUnavailable as error:
                self._unavailable("idempotency_key_not_released", error)
            else:
                metrics.IDEMPOTENCY.labels("released" if held else "lost").inc()

    def _settle(self) -> bool:
        """Whether this is the end; before anything is awaited, so that being cancelled in it cannot bring a second."""
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
        """Whether the key is held; None where the store does not say."""
        try:
            held = await self._store.renew(self._claim, self._policy.lease_seconds, client_left=self._left)
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
