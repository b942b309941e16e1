"""Another try of the same route, after an error that may not come twice."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from platform_app.config import RetryConfig
from platform_app.errors import PlatformError
from platform_app.llm.interfaces import Upstream, UpstreamResponse
from platform_app.llm.models.route import Route
from platform_app.llm.policies.failure_table import failure_policy_of, reason_label
from platform_app.llm.requests import ModelCall
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger

_log = get_logger("policies")

Sleep = Callable[[float], Awaitable[None]]


class Retry:
    """Sends again what the table says may succeed, with jittered exponential waits.

    `send` returns with a stream's first chunk, so nothing is retried after it. No wait passes the call's deadline:
    rather than sleep towards a certain timeout it raises the last error at once, which also leaves the time to others.
    While another route could respond, no wait is longer than `max_wait_seconds`, jitter included.
    """

    def __init__(
        self,
        upstream: Upstream,
        route: Route,
        policy: RetryConfig,
        max_wait_seconds: float | None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Bound each wait by `max_wait_seconds`, or, where it is None because the model has no other route, only a wait
        that the provider asks for, by `policy.retry_after_cap_seconds`."""
        self._upstream = upstream
        self._route = route
        self._retry_after_max = policy.retry_after_cap_seconds if max_wait_seconds is None else max_wait_seconds
        self._max_wait = math.inf if max_wait_seconds is None else max_wait_seconds
        self._sleep = sleep
        self._enough = stop_after_attempt(policy.max_attempts)
        self._backoff = wait_random_exponential(policy.base_seconds, policy.max_seconds)

    async def send(self, call: ModelCall) -> UpstreamResponse:
        """See Upstream.send. The first try goes without tenacity, which costs five times the rest of the chain."""
        try:
            return await self._upstream.send(call)
        except PlatformError as error:
            if not self._may_succeed(error):
                raise
            first = error
        return await self._send_again(call, first)

    async def _send_again(self, call: ModelCall, first: PlatformError) -> UpstreamResponse:
        tries = _Tries(self._upstream, call, first)
        retrying = AsyncRetrying(
            retry=retry_if_exception(self._may_succeed),
            wait=self._wait,
            stop=lambda state: self._enough(state) or _too_late(state, call.deadline),
            before_sleep=self._note,
            sleep=self._sleep,
            reraise=True,
        )
        return await retrying(tries.send)

    def _may_succeed(self, error: BaseException) -> bool:
        return (
            isinstance(error, PlatformError)
            and failure_policy_of(error).retry
            # To come earlier than asked would only be refused again, and count against us.
            and (error.retry_after or 0) <= self._retry_after_max
        )

    def _wait(self, state: RetryCallState) -> float:
        """As long as the provider asked for, and a random time on top, so that waiters do not come back as a crowd."""
        return min((_error(state).retry_after or 0) + self._backoff(state), self._max_wait)

    def _note(self, state: RetryCallState) -> None:
        reason = reason_label(_error(state))
        metrics.PROVIDER_RETRIES.labels(self._route.provider, reason).inc()
        _log.info(
            "provider_retry",
            provider=self._route.provider,
            model=self._route.upstream_model,
            reason=reason,
            attempt=state.attempt_number + 1,
            wait_ms=round(state.upcoming_sleep * 1000),
        )


@dataclass(slots=True)
class _Tries:
    """What tenacity calls: the first try happened already, and only its error is told."""

    upstream: Upstream
    call: ModelCall
    first: PlatformError | None

    async def send(self) -> UpstreamResponse:
        if self.first is not None:
            error, self.first = self.first, None
            raise error
        return await self.upstream.send(self.call)


def _error(state: RetryCallState) -> PlatformError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, PlatformError)  # noqa: S101 - only such errors are retried
    return error


def _too_late(state: RetryCallState, deadline: float) -> bool:
    return asyncio.get_running_loop().time() + state.upcoming_sleep >= deadline
