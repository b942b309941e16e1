"""What happens when Redis is down, stated once: this process limits by itself, says so, and tries again."""

import time
from collections.abc import Callable, Sequence

from platform_app.errors import LimiterUnavailable
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger
from platform_app.rate_limit.limiter import Decision, RateLimiter
from platform_app.rate_limit.rules import Charge

PROBE_SECONDS = 1.0
"""While degraded, one request in this time tries the shared limiter again."""

_log = get_logger("rate_limit")


class DegradingLimiter:
    """Same interface as the limiters that it joins. While `shared` fails, `local` decides.

    Only requests that meet the failure first wait for the timeout of `shared`; after it a breaker is open and
    one request a second probes. Degraded, the limits hold per process at their share, so together they still
    hold, but a key that reaches one process alone gets its share alone.
    """

    def __init__(self, shared: RateLimiter, local: RateLimiter, clock: Callable[[], float] = time.monotonic) -> None:
        self._shared = shared
        self._local = local
        self._clock = clock
        self._probe_at = 0.0
        self.degraded = False

    async def acquire(self, charges: Sequence[Charge]) -> Decision:
        """See RateLimiter.acquire; never unavailable."""
        if self.degraded:
            if self._clock() < self._probe_at:
                return await self._decide_locally(charges)
            self._probe_at = self._clock() + PROBE_SECONDS  # the others go on locally while this one probes
        try:
            decision = await self._shared.acquire(charges)
        except LimiterUnavailable as error:
            self._degrade(error)
            return await self._decide_locally(charges)
        if self.degraded:
            self._recover()
        metrics.LIMITER.labels("allowed" if decision.allowed else "denied", "shared").inc()
        return decision

    async def _decide_locally(self, charges: Sequence[Charge]) -> Decision:
        decision = await self._local.acquire(charges)
        metrics.LIMITER.labels("allowed" if decision.allowed else "denied", "local").inc()
        return decision

    def _degrade(self, error: LimiterUnavailable) -> None:
        self._probe_at = self._clock() + PROBE_SECONDS
        metrics.LIMITER.labels("unavailable", "shared").inc()
        if not self.degraded:
            self.degraded = True
            metrics.LIMITER_DEGRADED.set(1)
            _log.warning("limiter_degraded", error=type(error.__cause__ or error).__name__)

    def _recover(self) -> None:
        self.degraded = False
        metrics.LIMITER_DEGRADED.set(0)
        _log.warning("limiter_recovered")

    async def aclose(self) -> None:
        """Close both limiters."""
        await self._shared.aclose()
        await self._local.aclose()
