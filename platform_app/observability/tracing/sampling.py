"""Which requests leave a trace.

A request is sampled at its start: by the caller's flag, or by a ratio of new traces. A request that was not sampled is
kept at its end if it failed or was slow. So a failure has a trace at any ratio, and a fast success costs nothing.
"""

from enum import StrEnum

from platform_app.observability.context import RequestContext

_ID_BITS = 64
CLIENT_CLOSED = "client_closed"


class Kept(StrEnum):
    """Why a request is kept: the label values of the metric platform_traces_kept."""

    SAMPLED = "sampled"
    FAILED = "failed"
    SLOW = "slow"


class RatioSampler:
    """Sample this share of new traces, by their ids: all gateways decide alike about one trace.

    The rule is that of OpenTelemetry's TraceIdRatioBased: the low 64 bits of the id are below the ratio's bound.
    """

    def __init__(self, ratio: float) -> None:
        self._bound: int = round(ratio * 2.0**_ID_BITS)

    def __call__(self, trace_id: str) -> bool:
        """Return whether a new trace with this id is sampled."""
        return int(trace_id[16:], 16) < self._bound


class KeepRule:
    """Decide at a request's end whether its record becomes a trace.

    Requests that are kept because they failed or were slow are bounded by a rate. An outage then costs a bounded number
    of traces, which suffices to see its cause.
    """

    def __init__(self, slow_seconds: float, slow_overhead_seconds: float, per_second: float) -> None:
        """
        Args:
            slow_seconds: a request that takes longer is slow.
            slow_overhead_seconds: a request to which the gateway itself adds more is slow.
            per_second: so many failed and slow requests are kept in a second, on average; the burst is the same number.
        """
        self._slow_seconds = slow_seconds
        self._slow_overhead_seconds = slow_overhead_seconds
        self._per_second = per_second
        self._tokens = per_second
        self._refilled = 0.0

    def decide(self, context: RequestContext, status: int, ended: float, overhead: float) -> Kept | None:
        """Return why the request is kept, or None. `ended`: time.perf_counter(); `overhead`: seconds."""
        if context.trace.sampled:
            return Kept.SAMPLED
        if status >= 500 or (context.reason is not None and _failed_late(context, status)):
            kept = Kept.FAILED
        elif ended - context.started > self._slow_seconds or (overhead > self._slow_overhead_seconds):
            kept = Kept.SLOW
        else:
            return None
        return kept if self._take(ended) else None

    def _take(self, now: float) -> bool:
        self._tokens = min(self._per_second, self._tokens + (now - self._refilled) * self._per_second)
        self._refilled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def _failed_late(context: RequestContext, status: int) -> bool:
    """Return whether a stream failed after its head was sent: its status is 200, and its reason an error code."""
    return status == 200 and bool(context.record.attempts) and context.record.attempts[-1].outcome not in (
        "ok", CLIENT_CLOSED
    )  # fmt: skip
