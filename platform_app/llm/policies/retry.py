"""Retry a request on the same route after an error that may be temporary."""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable

from platform_app.config import RetryConfig
from platform_app.errors import PlatformError
from platform_app.llm.errors import MAX_RETRY_AFTER_SECONDS
from platform_app.llm.interfaces import Upstream, UpstreamResponse
from platform_app.llm.models.route import Route
from platform_app.llm.policies.failure_table import failure_policy_of, reason_label
from platform_app.llm.requests import ModelCall
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger
from platform_app.observability.record import RETRY_WAIT, AttemptRecord

_log = get_logger("policies")

Sleep = Callable[[float], Awaitable[None]]


class Retry:
    """Retry the errors that the failure table allows, with exponential backoff and full jitter.

    `send` returns with the first chunk of a stream, so nothing is retried after it. A wait that would pass the call's
    deadline is not begun: the error is raised at once, which leaves the time to the other routes. While the model has
    another route, no wait is longer than `max_wait_seconds`, jitter included.
    """

    def __init__(
        self,
        upstream: Upstream,
        route: Route,
        policy: RetryConfig,
        max_wait_seconds: float | None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Limit each wait to `max_wait_seconds`. None means that the model has no other route: then only a Retry-After
        of the provider is limited, to `policy.retry_after_cap_seconds`."""
        self._upstream = upstream
        self._route = route
        self._policy = policy
        self._retry_after_max = policy.retry_after_cap_seconds if max_wait_seconds is None else max_wait_seconds
        self._max_wait = math.inf if max_wait_seconds is None else max_wait_seconds
        self._sleep = sleep

    async def send(self, call: ModelCall) -> UpstreamResponse:
        """See Upstream.send."""
        attempt = 1
        log = call.attempt_log
        while True:
            sent = log.attempts
            try:
                return await self._upstream.send(call)
            except PlatformError as error:
                reason = reason_label(error)
                if log.attempts == sent:
                    log.record.attempts.append(self._not_sent(call, reason))
                if attempt >= self._policy.max_attempts or not self._may_retry(error):
                    raise
                wait = self._wait_seconds(error, attempt)
                if asyncio.get_running_loop().time() + wait >= call.deadline:
                    raise
                attempt += 1
                self._note(reason, attempt, wait)
            began = time.perf_counter()
            try:
                await self._sleep(wait)
            finally:
                log.record.hops.append((RETRY_WAIT, began, time.perf_counter(), reason))

    def _not_sent(self, call: ModelCall, reason: str) -> AttemptRecord:
        """Return the record of a call that no provider got."""
        route, now = self._route, time.perf_counter()
        return AttemptRecord(
            route.provider, route.public_model, route.upstream_model, call.operation.value, call.stream, now,
            ended=now, outcome=reason,
        )  # fmt: skip

    def _may_retry(self, error: PlatformError) -> bool:
        # A retry before the Retry-After would be refused too, and the provider would count it. One that is longer than
        # MAX_RETRY_AFTER_SECONDS was cut to that, so its true length is not known here.
        asked = error.retry_after
        waits = asked is None or (asked <= self._retry_after_max and asked < MAX_RETRY_AFTER_SECONDS)
        return failure_policy_of(error).retry and waits

    def _wait_seconds(self, error: PlatformError, attempt: int) -> float:
        """Return the provider's Retry-After plus a random backoff, so that the waiting calls do not return together.

        `attempt` is the number of the attempt that failed, counted from 1.
        """
        longest = min(self._policy.max_seconds, self._policy.base_seconds * 2 ** (attempt - 1))
        backoff = random.uniform(0, longest)  # noqa: S311 - jitter, no secret
        return min((error.retry_after or 0) + backoff, self._max_wait)

    def _note(self, reason: str, attempt: int, wait: float) -> None:
        metrics.PROVIDER_RETRIES.labels(self._route.provider, reason).inc()
        _log.info(
            "provider_retry",
            provider=self._route.provider,
            model=self._route.upstream_model,
            reason=reason,
            attempt=attempt,
            wait_ms=round(wait * 1000),
        )
