"""The metrics of one request, counted once at its end from its context and record.

A streamed request with seven hops costs 4 µs here, so the children of metrics are looked up once for each
set of label values.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from platform_app.observability import metrics
from platform_app.observability.context import RequestContext
from platform_app.observability.metrics.kinds import Histogram
from platform_app.observability.record import HOPS, OK, PROVIDER, AttemptRecord
from platform_app.observability.request.outcomes import outcome_of

MAX_REMEMBERED = 4096
"""Sets of label values. They come from closed sets; this bounds the memory if one does not."""
OTHER = "other"
"""The label value of anything that is not in its closed set."""

_HOPS = {name: metrics.HOP_SECONDS.labels(name) for name in HOPS}
_OTHER_HOP = metrics.HOP_SECONDS.labels(OTHER)
_PROVIDER_HOP = _HOPS[PROVIDER]


class _RequestSeries(NamedTuple):
    count_status: Callable[[], None]
    count_outcome: Callable[[], None]
    seconds: Histogram
    overhead: Histogram


class _StreamSeries(NamedTuple):
    first_chunk: Histogram
    per_chunk: Histogram


class _TokenSeries(NamedTuple):
    input: Histogram
    output: Histogram


def count_request(context: RequestContext, status: int, ended: float, overhead: float) -> None:
    """Count a request that has ended.

    Args:
        context: the request, with its record.
        status: of the response; 499 if the client disconnected first.
        ended: time.perf_counter() at its end.
        overhead: the seconds that the gateway itself added, from RequestRecord.overhead.
    """
    series = _request_series(context.method, context.route, status, context.reason)
    series.count_status()
    series.count_outcome()
    series.seconds.observe(ended - context.started)
    series.overhead.observe(overhead)
    if context.model is not None:
        _model_series(context.model, status, context.reason)()
    record = context.record
    for name, start, end, _ in record.hops:
        _HOPS.get(name, _OTHER_HOP).observe(end - start)
    for attempt in record.attempts:
        if attempt.sent:
            _count_attempt(attempt, ended)


def _count_attempt(attempt: AttemptRecord, request_ended: float) -> None:
    ended = request_ended if attempt.ended is None else attempt.ended
    operation, provider, model = attempt.operation, attempt.provider, attempt.label or attempt.upstream_model
    seconds = ended - attempt.started
    _PROVIDER_HOP.observe(seconds)
    _attempt_series(operation, provider, model, attempt.outcome).observe(seconds)
    if attempt.first_chunk is not None:
        stream = _stream_series(operation, provider, model)
        stream.first_chunk.observe(attempt.first_chunk - attempt.started)
        if attempt.chunks > 1:
            # The conventions observe each chunk. The mean, counted once for each chunk, has the same sum and count, and
            # costs nothing while the stream runs.
            gaps = attempt.chunks - 1
            stream.per_chunk.observe_times((ended - attempt.first_chunk) / gaps, gaps)
    if attempt.usage is not None:
        tokens = _token_series(operation, provider, model)
        tokens.input.observe(attempt.usage.prompt_tokens)
        tokens.output.observe(attempt.usage.completion_tokens)


@lru_cache(MAX_REMEMBERED)
def _request_series(method: str, route: str, status: int, reason: str | None) -> _RequestSeries:
    return _RequestSeries(
        metrics.HTTP_REQUESTS.labels(method, route, str(status)).inc,
        metrics.REQUESTS.labels(route, outcome_of(status, reason)).inc,
        metrics.HTTP_SECONDS.labels(route),
        metrics.OVERHEAD_SECONDS.labels(route),
    )


@lru_cache(MAX_REMEMBERED)
def _model_series(model: str, status: int, reason: str | None) -> Callable[[], None]:
    return metrics.MODEL_REQUESTS.labels(model, outcome_of(status, reason)).inc


@lru_cache(MAX_REMEMBERED)
def _attempt_series(operation: str, provider: str, model: str, outcome: str) -> Histogram:
    return metrics.GEN_AI_DURATION.labels(operation, provider, model, "" if outcome == OK else outcome)


@lru_cache(MAX_REMEMBERED)
def _stream_series(operation: str, provider: str, model: str) -> _StreamSeries:
    labels = operation, provider, model
    return _StreamSeries(metrics.GEN_AI_FIRST_CHUNK.labels(*labels), metrics.GEN_AI_PER_CHUNK.labels(*labels))


@lru_cache(MAX_REMEMBERED)
def _token_series(operation: str, provider: str, model: str) -> _TokenSeries:
    labels = operation, provider, model
    return _TokenSeries(metrics.GEN_AI_TOKENS.labels(*labels, "input"), metrics.GEN_AI_TOKENS.labels(*labels, "output"))
