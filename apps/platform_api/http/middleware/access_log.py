"""The access line of each request, with the bound that the ledger has: lines of requests without a verified key are
written one by one up to a number per client address and minute, and then counted in one line."""

import asyncio

from platform_app.ledger.events.event import AccessDecision
from platform_app.ledger.events.refusal_counts import RefusalCount, RefusalCounts
from platform_app.observability.context import RequestContext
from platform_app.observability.logging import write_access_line
from platform_app.observability.record import PROVIDER, RequestRecord

COUNTED_SECONDS = 60.0
"""A count is written so long after its first request at most."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class AccessLog:
    """Writes access lines. Unlike the ledger's, its counts are in memory alone: `kill -9` loses those of a minute."""

    def __init__(self, lines_per_address: int) -> None:
        """`lines_per_address`: of requests without a key, in a minute, that are written one by one."""
        self._counts = RefusalCounts(lines_per_address, self._changed, _write_count)
        self._timer: asyncio.TimerHandle | None = None

    def write(self, event: AccessDecision, context: RequestContext, ended: float, overhead: float) -> None:
        """Write the line of a request that ended at this time.perf_counter(), or count it. `overhead`: the seconds that
        the gateway itself added."""
        if event.key_id is None and not self._counts.take(event):
            return
        record = context.record
        last = record.attempts[-1] if record.attempts else None
        write_access_line(
            {
                "method": event.method,
                "route": event.route,
                "status": event.status,
                "duration_ms": milliseconds(ended - context.started),
                "overhead_ms": milliseconds(overhead),
                "key_id": context.key_id,
                "decision": context.decision,
                "reason": context.reason,
                "model": context.model,
                "provider": context.provider,
                "attempts": context.attempts,
                "upstream_request_id": None if last is None else last.upstream_request_id,
                "not_sent": None if last is None or last.span_id else last.outcome,
                "hops": milliseconds_by_hop(record),
                "client_address": context.client_address,
            },
            context,
        )

    def flush(self) -> None:
        """Write the counts now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._counts.end_minute()

    def _changed(self, _: RefusalCount) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(COUNTED_SECONDS, self.flush)


def milliseconds(seconds: float) -> float:
    """Return a time in milliseconds, cut after the microsecond."""
    return seconds * 1e6 // 1 / 1e3  # a call of round takes three times as long


def milliseconds_by_hop(record: RequestRecord) -> dict[str, float]:
    """Return the time of each hop; that of all attempts together is `provider`. Times below a microsecond are 0."""
    hops: dict[str, float] = {}  # whole microseconds, whose sums are exact
    for name, start, end, _ in record.hops:
        spent = (end - start) * 1e6 // 1
        hops[name] = hops[name] + spent if name in hops else spent
    for attempt in record.attempts:
        if attempt.ended is not None and attempt.span_id:
            spent = (attempt.ended - attempt.started) * 1e6 // 1
            hops[PROVIDER] = hops[PROVIDER] + spent if PROVIDER in hops else spent
    return {name: microseconds / 1e3 for name, microseconds in hops.items()}


def shown_method(method: str) -> str:
    """The method, as metrics and log lines have it: of a closed set."""
    return method if method in _METHODS else "other"


def _write_count(count: RefusalCount) -> None:
    event = count.event
    write_access_line(
        {
            "method": event.method,
            "route": event.route,
            "status": event.status,
            "duration_ms": round(event.duration_ms, 3),
            "key_id": None,
            "decision": event.decision,
            "reason": event.reason,
            "client_address": event.client_address,
            "count": event.count,
            "request_id": event.request_id,
            "trace_id": event.trace_id,
        },
        None,
    )
