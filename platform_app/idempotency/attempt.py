"""One request's work under an Idempotency-Key, from holding the key to keeping its answer or letting go."""

import asyncio
from dataclasses import dataclass

from platform_app.errors import IdempotencyUnavailable
from platform_app.idempotency.answer import KeptAnswer
from platform_app.idempotency.base import TOO_LARGE, Claim, IdempotencyStore
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


class Attempt:
    """Holds the key until `finish` or `release`, of which the first counts. Neither raises, and neither waits longer
    than the store does: an answer is not withheld because it cannot be kept."""

    def __init__(self, store: IdempotencyStore, claim: Claim, policy: KeepingPolicy, *, protected: bool) -> None:
        """`protected`: whether the key is known to be held. Where the store could not be asked, renewing takes hold of
        it as soon as it can."""
        self._store = store
        self._claim = claim
        self._policy = policy
        self._settled = False
        self.protected = protected
        self.max_bytes = policy.max_bytes
        self._renewing = asyncio.create_task(self._keep_holding(), name="idempotency-lease")

    async def finish(self, answer: KeptAnswer) -> None:
        """Keep the answer; of a larger one than the policy allows, that it was given."""
        too_large = len(answer.body) > self._policy.max_bytes
        data = TOO_LARGE if too_large else answer.encode()
        if self._settle():
            try:
                held = await self._store.finish(self._claim, data, self._policy.keep_seconds)
            except IdempotencyUnavailable as error:
                self._unavailable("idempotency_answer_not_kept", error)
            else:
                metrics.IDEMPOTENCY.labels(("too_large" if too_large else "stored") if held else "lost").inc()

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
        self._renewing.cancel()
        return first

    async def _keep_holding(self) -> None:
        ends_at = asyncio.get_running_loop().time() + LONGEST_SECONDS
        failing = False
        while asyncio.get_running_loop().time() < ends_at:
            await asyncio.sleep(self._policy.lease_seconds / 3)
            try:
                if not await self._store.renew(self._claim, self._policy.lease_seconds):
                    _log.warning("idempotency_lease_lost")  # counted when the request ends
                    return
                failing = False
            except IdempotencyUnavailable as error:
                if not failing:
                    self._unavailable("idempotency_lease_not_renewed", error)
                failing = True

    def _unavailable(self, event: str, error: IdempotencyUnavailable) -> None:
        metrics.IDEMPOTENCY.labels("unavailable").inc()
        _log.warning(event, error=type(error.__cause__ or error).__name__)
