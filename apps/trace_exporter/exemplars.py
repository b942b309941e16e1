"""The latest exported trace of each bucket of the latency histograms (docs/adr/0033)."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import Histogram
from prometheus_client.utils import floatToGoString

from platform_app.observability import metrics
from platform_app.observability.exemplars import Exemplar, write_exemplars
from platform_app.observability.record import OK, PROVIDER
from platform_app.observability.tracing.kept_request import KeptRequest

WRITE_SECONDS = 1.0
MAX_EXEMPLARS = 5_000
"""Labels come from closed sets, so this bound is a safeguard."""

Observation = tuple[Histogram, tuple[str, ...], float]
"""A histogram, its label values, and the value that the worker observed."""


class LatestExemplars:
    """Collects exemplars and writes them to the metrics directory, at most once a second."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._latest: dict[tuple[str, tuple[str, ...], str], Exemplar] = {}
        self._changed = False
        self._written_at = -math.inf

    def note(self, request: KeptRequest) -> None:
        """Make the request the exemplar of each bucket that it was counted in."""
        timestamp = request.started_at / 1e9 + request.ended / 1e6
        for histogram, values, seconds in observations(request):
            series = histogram._name, values
            le = bucket(histogram, seconds)
            key = (*series, le)
            if key not in self._latest and len(self._latest) >= MAX_EXEMPLARS:
                continue
            labels = dict(zip(histogram._labelnames, values, strict=True))
            self._latest[key] = Exemplar(series[0], labels, le, seconds, request.trace_id, timestamp)
            self._changed = True

    def write(self, now: float) -> None:
        """Write the file if an exemplar changed and the last time was a second ago. `now`: time.monotonic()."""
        if self._changed and now - self._written_at >= WRITE_SECONDS:
            self._changed, self._written_at = False, now
            with contextlib.suppress(OSError):  # exemplars are lost, metrics are not
                write_exemplars(self._directory, self._latest.values())


def bucket(histogram: Histogram, seconds: float) -> str:
    """Return the bound of the bucket that counts this value, as the text format writes it."""
    bounds: list[float] = histogram._upper_bounds
    bound = next(bound for bound in bounds if seconds <= bound)
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call]  # prometheus_client


def observations(request: KeptRequest) -> Iterator[Observation]:
    """Yield what the request's worker observed in latency histograms."""
    yield metrics.HTTP_SECONDS, (request.route,), request.ended / 1e6
    yield metrics.OVERHEAD_SECONDS, (request.route,), request.overhead / 1e6
    for hop, start, end, _ in request.hops:
        yield metrics.HOP_SECONDS, (hop,), (end - start) / 1e6
    for attempt in request.attempts:
        if attempt.sent:
            seconds = (attempt.ended - attempt.started) / 1e6
            error = "" if attempt.outcome == OK else attempt.outcome
            yield metrics.HOP_SECONDS, (PROVIDER,), seconds
            model = attempt.label or attempt.upstream_model
            labels = (attempt.operation, attempt.provider, model, error)
            yield metrics.GEN_AI_DURATION, labels, seconds
