"""Counts and times one provider call, however it ends."""

import time
from types import TracebackType
from typing import Self

from platform_app.errors import PlatformError
from platform_app.observability import metrics


class ProviderCall:
    """A context manager around one call: `ok`, the code of our error, or `client_closed` where the caller left."""

    def __init__(self, provider: str, model: str) -> None:
        self._labels = (provider, model)
        self._started = 0.0
        self._saw_chunk = False
        self._tokens = (0, 0)

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        return self

    def chunk(self) -> None:
        """A piece of a stream came; the first one is timed."""
        if not self._saw_chunk:
            self._saw_chunk = True
            metrics.PROVIDER_FIRST_CHUNK_SECONDS.labels(*self._labels).observe(time.perf_counter() - self._started)

    def tokens(self, prompt: int, completion: int) -> None:
        """What the provider counted. Some report a running total with every chunk: the last word counts."""
        self._tokens = (prompt, completion)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            outcome = "ok"
        elif isinstance(error, PlatformError):
            outcome = error.code
        elif isinstance(error, Exception):
            outcome = "internal_error"
        else:  # CancelledError or GeneratorExit
            outcome = "client_closed"
        metrics.PROVIDER_REQUESTS.labels(*self._labels, outcome).inc()
        metrics.PROVIDER_SECONDS.labels(*self._labels).observe(time.perf_counter() - self._started)
        for direction, count in zip(("input", "output"), self._tokens, strict=True):
            metrics.PROVIDER_TOKENS.labels(*self._labels, direction).inc(count)
