"""What happens when Redis is down, stated once: this process limits by itself, says so, and tries again."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from platform_app.errors import LimiterUnavailable
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger
from platform_app.rate_limit.limiter import CountersUnknown, Decision, RateLimiter, RuleState
from platform_app.rate_limit.matching import Charge, hash_tag
from platform_app.rate_limit.rule import Rule

PROBE_SECONDS = 0.5
"""While degraded, the shared limiter is tried so often, by nobody's request."""
_PROBE = Rule("probe", "global", "requests", limit=1_000_000_000, window_seconds=1)

_log = get_logger("rate_limit")


def probe_of(counter: str) -> Charge:
    """A charge that denies nobody, beside this counter."""
    return Charge(_PROBE, f"fbp:rl:{{{hash_tag(counter)}}}:probe")


class FailoverLimiter:
    """Same interface as the limiters that it joins. While `shared` fails, `local` decides, unless a rule that applies
    says that then nobody passes.

    Only requests that meet the failure first wait for the timeout of `shared`; after it a breaker is open, and a task
    probes. Degraded, the limits hold per process at their share, so together they still hold, but a key that reaches
    one process alone gets its share alone.
    """

    def __init__(
        self,
        shared: RateLimiter,
        local: RateLimiter,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._shared = shared
        self._local = local
        self._sleep = sleep
        self._probes = [probe_of("fbp:rl:{shared}")]
        self._probing: asyncio.Task[None] | None = None
        self.degraded = False

    async def acquire(self, charges: Sequence[Charge]) -> Decision:
        """See RateLimiter.acquire; unavailable only where a rule is closed."""
        if self.degraded:
            return await self._decide_locally(charges)
        try:
            decision = await self._shared.acquire(charges)
        except CountersUnknown:
            # Redis is there, and what it lost is not known: for this request it is as if Redis were down.
            return await self._decide_locally(charges)
        except LimiterUnavailable as error:
            self._degrade(error, charges)
            return await self._decide_locally(charges)
        metrics.LIMITER.labels("allowed" if decision.allowed else "denied", "shared").inc()
        return decision

    async def read(self, charges: Sequence[Charge]) -> tuple[RuleState, ...]:
        """See RateLimiter.read; of this process alone while it is degraded."""
        if not self.degraded:
            try:
                return await self._shared.read(charges)
            except LimiterUnavailable as error:
                self._degrade(error, charges)
        return await self._local.read(charges)

    async def probe(self) -> bool:
        """Try the shared limiter, which ends or begins the degraded state. Whether it counts."""
        try:
            await self._shared.acquire(self._probes)
        except LimiterUnavailable as error:
            self._degrade(error, self._probes)
            return False
        if self.degraded:
            self._recover()
        return True

    async def counts(self) -> bool:
        """Whether the shared limiter counts now. Changes nothing: no probe from outside decides how requests are
        limited."""
        try:
            await self._shared.acquire([probe_of("fbp:rl:{shared}")])
        except LimiterUnavailable:
            return False
        return True

    async def _decide_locally(self, charges: Sequence[Charge]) -> Decision:
        closed = next(
            (charge.rule for charge in charges if charge.rule.refuses_on_outage and not charge.rule.shadow), None
        )
        if closed is not None:
            metrics.LIMITER.labels("closed", "local").inc()
            raise LimiterUnavailable(
                f"The rate limiter cannot count right now, and then the limit '{closed.name}' lets no request pass. "
                "Try again shortly.",
                retry_after=1,
            )
        decision = await self._local.acquire(charges)
        metrics.LIMITER.labels("allowed" if decision.allowed else "denied", "local").inc()
        return decision if decision.allowed else replace(decision, degraded=True)

    def _degrade(self, error: LimiterUnavailable, charges: Sequence[Charge]) -> None:
        metrics.LIMITER.labels("unavailable", "shared").inc()
        if not self.degraded:
            # Of a cluster, the nodes that failed are those to be asked again.
            self._probes = list({hash_tag(charge.counter): probe_of(charge.counter) for charge in charges}.values())
            self.degraded = True
            metrics.LIMITER_DEGRADED.set(1)
            _log.warning("limiter_degraded", error=type(error.__cause__ or error).__name__)
            self._probing = asyncio.create_task(self._probe_until_recovered(), name="limiter-probe")

    async def _probe_until_recovered(self) -> None:
        while self.degraded:
            await self._sleep(PROBE_SECONDS)
            try:
                await self.probe()
            except Exception:  # noqa: BLE001 - a bug here must not leave this process degraded for ever
                _log.exception("limiter_probe_bug")

    def _recover(self) -> None:
        self.degraded = False
        metrics.LIMITER_DEGRADED.set(0)
        _log.warning("limiter_recovered")

    async def aclose(self) -> None:
        """Close both limiters."""
        if self._probing is not None:
            self._probing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probing
        await self._shared.aclose()
        await self._local.aclose()
