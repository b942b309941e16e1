"""Count the calls that failed for the caller, after all retries and fallbacks."""

from platform_app.errors import PlatformError
from platform_app.llm.interfaces import Upstream, UpstreamResponse
from platform_app.llm.requests import ModelCall
from platform_app.observability import metrics


class FailureMetrics:
    """Count calls that failed before their first byte, by the error code that the caller gets. The routes count single
    attempts; this count distinguishes failures that reached a caller from those that a fallback hid."""

    def __init__(self, upstream: Upstream, public_model: str) -> None:
        self._upstream = upstream
        self._model = public_model

    async def send(self, call: ModelCall) -> UpstreamResponse:
        """See Upstream.send."""
        try:
            return await self._upstream.send(call)
        except PlatformError as error:
            _discourage_retry(error, call)
            metrics.MODEL_CALL_FAILURES.labels(self._model, error.code).inc()
            raise


def _discourage_retry(error: PlatformError, call: ModelCall) -> None:
    """Mark the error as not worth a retry if the gateway has retried already, on one route or on several: clients that
    retry by themselves would multiply the attempts. A Retry-After of the provider that was too long to wait for here
    stays, since a retry after it is the first."""
    if call.attempt_log.attempts > 1 and (error.tries > 1 or error.retry_after is None):
        error.should_retry = False
        error.retry_after = None
