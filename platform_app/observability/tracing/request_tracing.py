"""The trace of a request, from its start in the middleware to its end."""

from collections.abc import Callable, Mapping
from typing import Any

from platform_app.config import Settings
from platform_app.observability import metrics
from platform_app.observability.context import RequestContext
from platform_app.observability.tracing.content import ContentCapture
from platform_app.observability.tracing.kept_request import kept_request
from platform_app.observability.tracing.sampling import KeepRule, RatioSampler
from platform_app.observability.tracing.sender import TraceSender, sender_of_parent
from platform_app.observability.tracing.trace_context import TraceContext, continue_trace

DescribeHttp = Callable[[], Mapping[str, Any]]
"""Returns the HTTP facts of a request; called for kept requests only."""


class RequestTracing:
    """Starts each request's trace, and sends the record of a kept request to the exporter."""

    def __init__(
        self, sampler: RatioSampler, rule: KeepRule, sender: TraceSender | None, content_bytes: int = 0
    ) -> None:
        """
        Args:
            sampler: decides for new traces.
            rule: decides at a request's end.
            sender: None if no traces are exported. Requests have trace ids anyhow.
            content_bytes: of the prompt and of the output in a trace; 0 for none.
        """
        self._sampler = sampler
        self._rule = rule
        self._sender = sender
        self._content_bytes = content_bytes if sender is not None else 0

    def start(self, traceparent: str | None) -> TraceContext:
        """Return the request's place in its caller's trace, or in a new one."""
        return continue_trace(traceparent, self._sampler)

    def content(self) -> ContentCapture | None:
        """Return what collects the request's prompt and output; None unless the operator opted in."""
        return ContentCapture(self._content_bytes) if self._content_bytes else None

    def end(
        self, context: RequestContext, status: int, ended: float, overhead: float, describe_http: DescribeHttp
    ) -> None:
        """Export the request if it is kept. Never waits.

        Args:
            context: the request.
            status: the response's status, or 499.
            ended: time.perf_counter().
            overhead: the seconds that the gateway itself added.
            describe_http: see kept_request.
        """
        if self._sender is None:
            return
        kept = self._rule.decide(context, status, ended, overhead)
        if kept is None:
            return
        try:
            line = kept_request(kept.value, context, describe_http(), status, ended).line()
        except (TypeError, ValueError):  # JSON cannot express a text or number of the client
            metrics.TRACES_DROPPED.labels("invalid").inc()
            return
        metrics.TRACES_KEPT.labels(kept.value).inc()
        self._sender.send(line)


NO_EXPORT = RequestTracing(RatioSampler(1.0), KeepRule(60.0, 0.25, 0.0), None)
"""Samples every new trace and exports none."""


def request_tracing(settings: Settings, sender: TraceSender | None = None) -> RequestTracing:
    """Return the tracing of this process. `sender` defaults to the pipe that the parent process gave."""
    rule = KeepRule(
        settings.trace_slow_seconds, settings.trace_slow_overhead_ms / 1000, settings.trace_kept_per_second
    )  # fmt: skip
    return RequestTracing(
        RatioSampler(settings.trace_sample_ratio), rule, sender or sender_of_parent(), settings.trace_content_bytes
    )
