"""W3C trace context (https://www.w3.org/TR/trace-context/): the caller's trace, and the gateway's span in it."""

import re
from collections.abc import Callable, Iterable

from platform_app.observability import ids
from platform_app.value_types import request_dataclass

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_ZERO_TRACE = "0" * 32
_ZERO_SPAN = "0" * 16


@request_dataclass(frozen=True, slots=True)
class TraceContext:
    """This request's place in a trace: 32 and 16 lower-case hex digits, never all zero."""

    trace_id: str
    span_id: str
    parent_id: str | None
    sampled: bool

    @property
    def traceparent(self) -> str:
        """The header value that names this request's span."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def sole_traceparent(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the caller's traceparent; None without one, and with several, of which none can be trusted (W3C: a new
    trace starts then)."""
    found = None
    for name, value in headers:
        if name == b"traceparent":
            if found is not None:
                return None
            found = value
    return None if found is None else found.decode("latin-1")


def child_traceparent(trace: TraceContext, span_id: str) -> str:
    """Return the header value that names a span below this request's span: that of one attempt at a provider."""
    return f"00-{trace.trace_id}-{span_id}-{'01' if trace.sampled else '00'}"


def continue_trace(traceparent: str | None, sample: Callable[[str], bool] = lambda _: True) -> TraceContext:
    """Return a new span in the caller's trace. Malformed input starts a new trace, as the standard requires.

    The caller's flag decides whether its trace is sampled. `sample` decides for a new trace, by its id.
    """
    span_id = ids.span_id()
    match = _TRACEPARENT.fullmatch(traceparent) if traceparent and len(traceparent) <= 256 else None
    if match is not None:
        version, trace_id, parent_id, flags, rest = match.groups()
        known_form = version != "ff" and not (version == "00" and rest)
        if known_form and trace_id != _ZERO_TRACE and parent_id != _ZERO_SPAN:
            return TraceContext(trace_id, span_id, parent_id, bool(int(flags, 16) & 1))
    trace_id = ids.trace_id()
    return TraceContext(trace_id, span_id, None, sample(trace_id))
