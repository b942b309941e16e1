"""Record, count and time one call to a provider, whatever its outcome."""

import time

from platform_app.errors import PlatformError
from platform_app.observability import metrics
from platform_app.observability.record import AttemptRecord


def outcome_of(error: BaseException | None) -> str:
    """Return `ok`, the error's code, or `client_closed` if the client disconnected."""
    if error is None:
        return "ok"
    if isinstance(error, PlatformError):
        return error.code
    return "internal_error" if isinstance(error, Exception) else "client_closed"


class ProviderCall:
    """One attempt, from the creation of its record to its end."""

    def __init__(self, record: AttemptRecord) -> None:
        self._record = record

    def first_chunk(self) -> None:
        """Note that the first chunk of a stream arrived."""
        record = self._record
        record.first_chunk = now = time.perf_counter()
        metrics.PROVIDER_FIRST_CHUNK_SECONDS.labels(record.provider, record.model).observe(now - record.started)

    def end(self, error: BaseException | None) -> None:
        """Note the end, and count the call and its duration; `error` is the reason why it failed, if it did."""
        record = self._record
        record.ended = now = time.perf_counter()
        record.outcome = outcome = outcome_of(error)
        metrics.PROVIDER_REQUESTS.labels(record.provider, record.model, outcome).inc()
        metrics.PROVIDER_SECONDS.labels(record.provider, record.model).observe(now - record.started)
