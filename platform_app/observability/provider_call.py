"""Count and time one call to a provider, whatever its outcome."""

import time

from platform_app.errors import PlatformError
from platform_app.observability import metrics


def outcome_of(error: BaseException | None) -> str:
    """Return `ok`, the error's code, or `client_closed` if the client disconnected."""
    if error is None:
        return "ok"
    if isinstance(error, PlatformError):
        return error.code
    return "internal_error" if isinstance(error, Exception) else "client_closed"


class ProviderCall:
    """One attempt, timed from the creation of this object."""

    def __init__(self, provider: str, model: str) -> None:
        self._labels = (provider, model)
        self._started = time.perf_counter()

    def first_chunk(self) -> None:
        """Note that the first chunk of a stream arrived."""
        metrics.PROVIDER_FIRST_CHUNK_SECONDS.labels(*self._labels).observe(time.perf_counter() - self._started)

    def end(self, error: BaseException | None) -> None:
        """Count the call and its duration; `error` is the reason why it failed, if it did."""
        metrics.PROVIDER_REQUESTS.labels(*self._labels, outcome_of(error)).inc()
        metrics.PROVIDER_SECONDS.labels(*self._labels).observe(time.perf_counter() - self._started)
