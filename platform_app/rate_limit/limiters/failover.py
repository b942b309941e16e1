"""The policy for an unavailable Redis: this process limits by itself, reports it, and probes until Redis is back."""

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
from platform_app.redis.failures import redis_failure

PROBE_SECONDS = 0.5
"""Interval of the probes while degraded. No request waits for a probe."""
_PROBE = Rule("probe", "global", "requests", limit=1_000_000_000, window_seconds=1)

_log = get_logger("rate_limit")


def probe_of(counter: str) -> Charge:
    """Return a charge that never denies, in the slot of this counter."""
    return Charge(_PROBE, f"fbp:rl:{{{hash_tag(counter)}}}:probe")


class FailoverLimiter:
    """Uses the shared limiter; while it is unavailable, uses the local one, or refuses if a rule that applies says so.

    Only requests that run when the failure begins wait for the shared limiter's timeout. After it the limiter is
    degraded, and a task probes. Each process then enforces its share of each limit, so the limits still hold in total.
    A key whose requests all reach one process gets only that process's share.
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
        """See RateLimiter.acquire. Raises LimiterUnavailable only if a rule with `on_outage: closed` applies."""
        if self.degraded:
            return await self._decide_locally(charges)
        try:
            decision = await self._shared.acquire(charges)
        except CountersUnknown:
            # Redis works, but a budget's counter is incomplete: decide this request as if Redis were unavailable.
            return await self._decide_locally(charges)
        except LimiterUnavailable as error:
            self._degrade(error, charges)
            return await self._decide_locally(charges)
        metrics.LIMITER.labels("allowed" if decision.allowed else "denied", "shared").inc()
        return decision

    async def read(self, charges: Sequence[Charge]) -> tuple[RuleState, ...]:
        """See RateLimiter.read. While degraded, return the state of this process."""
        if not self.degraded:
            try:
                return await self._shared.read(charges)
            except LimiterUnavailable as error:
                self._degrade(error, charges)
        return await self._local.read(charges)

    async def probe(self) -> bool:
        """Try the shared limiter, and begin or end the degraded state. Return whether the shared limiter works."""
        try:
            await self._shared.acquire(self._probes)
        except LimiterUnavailable as error:
            self._degrade(error, self._probes)
            return False
        if self.degraded:
            self._recover()
        return True

    async def check(self) -> None:
        """Return if the shared limiter works now. Does not change the degraded state, so that readiness probes do not
        influence requests.

        Raises:
            LimiterUnavailable: it does not work.
        """
        await self._shared.acquire([probe_of("fbp:rl:{shared}")])

    async def _decide_locally(self, charges: Sequence[Charge]) -> Decision:
        closed = next(
            (charge.rule for charge in charges if charge.rule.refuses_on_outage and not charge.rule.shadow), None
        )
        if closed is not None:
            metrics.LIMITER.labels("closed", "local").inc()
            raise LimiterUnavailable(
                f"The rate limiter is unavailable, and the limit '{closed.name}' refuses requests until it is back. "
                "Try again shortly.",
                retry_after=1,
            )
        decision = await self._local.acquire(charges)
        metrics.LIMITER.labels("allowed" if decision.allowed else "denied", "local").inc()
        return decision if decision.allowed else replace(decision, degraded=True)

    def _degrade(self, error: LimiterUnavailable, charges: Sequence[Charge]) -> None:
        metrics.LIMITER.labels("unavailable", "shared").inc()
        if not self.degraded:
            # On a cluster, probe the nodes that failed.
            self._probes = list({hash_tag(charge.counter): probe_of(charge.counter) for charge in charges}.values())
            self.degraded = True
            metrics.LIMITER_DEGRADED.set(1)
            _log.warning("limiter_degraded", error=str(redis_failure(error.__cause__ or error)))
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
        """Stop the probes and close both limiters."""
        if self._probing is not None:
            self._probing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probing
        await self._shared.aclose()
        await self._local.aclose()
