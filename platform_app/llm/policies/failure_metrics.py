"""What a request's call came to, after everything that was done about it."""

from platform_app.errors import PlatformError
from platform_app.llm.interfaces import Upstream, UpstreamResponse
from platform_app.llm.requests import ModelCall
from platform_app.observability import metrics


class FailureMetrics:
    """Counts calls that failed before their first byte, by the code that the caller gets. Attempts are counted by the
    routes; without this nobody could tell a failure that was routed around from one that reached a caller."""

    def __init__(self, upstream: Upstream, public_model: str) -> None:
        self._upstream = upstream
        self._model = public_model

    async def send(self, call: ModelCall) -> UpstreamResponse:
        """See Upstream.send."""
        try:
            return await self._upstream.send(call)
        except PlatformError as error:
            _note_used_up(error, call)
            metrics.MODEL_CALL_FAILURES.labels(self._model, error.code).inc()
            raise


def _note_used_up(error: PlatformError, call: ModelCall) -> None:
    """Tell the caller not to retry what was retried here, or on every route: clients that retry by themselves would
    multiply the tries. A time to wait that the provider named, and that was too long to wait here, stays: after it a
    retry is the first."""
    if call.attempt_log.attempts > 1 and (error.tries > 1 or error.retry_after is None):
        error.should_retry = False
        error.retry_after = None
