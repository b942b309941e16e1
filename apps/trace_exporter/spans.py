"""A kept request as spans: the server span, and below it the hops and the attempts at providers.

Times and ids come from the request's record, so the spans are made after the fact (docs/adr/0033).
"""

from collections.abc import Sequence

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from apps.trace_exporter import conventions as name
from apps.trace_exporter.attempts import attempt_attributes, attempt_failed, not_sent_event
from apps.trace_exporter.conventions import ModelNames
from apps.trace_exporter.texts import address, shown
from platform_app.observability import ids
from platform_app.observability.record import FALLBACK, OK, RETRY_WAIT
from platform_app.observability.tracing.kept_request import KeptAttempt, KeptRequest

CLIENT_CLOSED = 499
"""The status that is recorded if the client disconnects first. It is never sent."""
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
"""Also for requests that were kept at their end: the batch processor exports no other span."""

Attributes = dict[str, AttributeValue]


class SpanBuilder:
    """Make the spans of kept requests."""

    def __init__(self, resource: Resource, names: ModelNames, version: str) -> None:
        self._resource = resource
        self._names = names
        self._scope = InstrumentationScope(name.SERVICE, version)

    def build(self, request: KeptRequest) -> list[ReadableSpan]:
        """Return all spans of one request, the server span first."""
        spans = [self._server_span(request)]
        spans += [self._hop_span(request, hop) for hop in request.hops if not _instant(hop)]
        sent = [attempt for attempt in request.attempts if attempt.sent]
        for number, attempt in enumerate(sent, 1):
            content = request.content if number == len(sent) else None
            attributes = attempt_attributes(attempt, number, content, self._names)
            spans.append(self._attempt_span(request, attempt, attributes))
        return spans

    def _server_span(self, request: KeptRequest) -> ReadableSpan:
        parent = _context(request, request.parent_id, remote=True) if request.parent_id else None
        named = request.method != "other"
        route = request.route if request.route != "unmatched" else ""
        return self._span(
            f"{request.method if named else 'HTTP'} {route}".rstrip(),
            _context(request, request.span_id),
            parent,
            SpanKind.SERVER,
            (0, request.ended),
            request,
            _server_attributes(request) | self._kind(),
            Status(StatusCode.ERROR) if request_failed(request) else Status(),
            _events(request),
        )

    def _hop_span(self, request: KeptRequest, hop: tuple[str, int, int, str]) -> ReadableSpan:
        hop_name, start, end, outcome = hop
        attributes: Attributes = {}
        failed = False
        if hop_name == RETRY_WAIT:
            attributes[name.AFTER] = outcome
        else:
            attributes[name.OUTCOME] = outcome
            failed = outcome != OK and request.status >= 500
        if failed:
            attributes[name.ERROR_TYPE] = outcome
        return self._span(
            hop_name,
            _context(request, ids.span_id()),
            _context(request, request.span_id),
            SpanKind.INTERNAL,
            (start, end),
            request,
            attributes | self._kind(),
            Status(StatusCode.ERROR) if failed else Status(),
        )

    def _attempt_span(self, request: KeptRequest, attempt: KeptAttempt, attributes: Attributes) -> ReadableSpan:
        status, events = Status(), []
        if attempt_failed(attempt):
            message = shown(attempt.message) or attempt.outcome
            status = Status(StatusCode.ERROR, message)
            exception = {name.EXCEPTION_TYPE: attempt.outcome, name.EXCEPTION_MESSAGE: message}
            events.append(Event(name.EXCEPTION, exception, _nanoseconds(request, attempt.ended)))
        return self._span(
            f"{attempt.operation} {shown(attempt.upstream_model)}",
            _context(request, attempt.span_id or ids.span_id()),
            _context(request, request.span_id),
            SpanKind.CLIENT,
            (attempt.started, attempt.ended),
            request,
            attributes,
            status,
            events,
        )

    def _kind(self) -> Attributes:
        names = self._names
        return {names.span_kind: names.other_span_kind} if names.span_kind and names.other_span_kind else {}

    def _span(
        self,
        span_name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        times: tuple[int, int],
        request: KeptRequest,
        attributes: Attributes,
        status: Status,
        events: Sequence[Event] = (),
    ) -> ReadableSpan:
        start, end = times
        return ReadableSpan(
            name=span_name,
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            events=events,
            kind=kind,
            status=status,
            start_time=_nanoseconds(request, start),
            end_time=_nanoseconds(request, max(start, end)),
            instrumentation_scope=self._scope,
        )


def request_failed(request: KeptRequest) -> bool:
    """Return whether the gateway or a provider failed, also after a stream's head was sent. Refusals of a caller, and
    clients that disconnect, are no failures of the server (HTTP conventions, span status)."""
    return request.status >= 500 or (
        request.status == 200 and bool(request.attempts) and attempt_failed(request.attempts[-1])
    )


def _server_attributes(request: KeptRequest) -> Attributes:
    host, port = address(shown(request.host) or "")
    attributes: dict[str, AttributeValue | None] = {
        name.HTTP_METHOD: request.method if request.method != "other" else "_OTHER",
        name.HTTP_ROUTE: request.route if request.route != "unmatched" else None,
        name.HTTP_STATUS: request.status if request.status not in (0, CLIENT_CLOSED) else None,
        # The path of no route is a client's text, as a pasted prompt, and is left out.
        name.URL_PATH: shown(request.path) if request.route != "unmatched" else None,
        name.URL_SCHEME: request.scheme,
        name.PROTOCOL_VERSION: request.http_version,
        name.SERVER_ADDRESS: host or None,
        name.SERVER_PORT: port,
        name.CLIENT_ADDRESS: request.client_address,
        name.USER_AGENT: shown(request.user_agent),
        name.REQUEST_ID: request.request_id,
        name.KEY_ID: request.key_id,
        name.OWNER: shown(request.owner),
        name.PUBLIC_MODEL: request.model,
        name.DECISION: request.decision,
        name.REASON: request.reason,
        name.DENIED_BY: request.denied_by,
        name.OVERHEAD_MS: request.overhead / 1000,
        name.KEPT: request.kept,
    }
    if request_failed(request):
        attributes[name.ERROR_TYPE] = request.reason or str(request.status)
    return {key: value for key, value in attributes.items() if value is not None}


def _events(request: KeptRequest) -> list[Event]:
    """Return what happened at one moment: fallbacks, and attempts that were not sent, in the order of time."""
    events = []
    for hop_name, start, end, outcome in request.hops:
        if _instant((hop_name, start, end, outcome)):
            attribute = name.AFTER if hop_name == FALLBACK else name.OUTCOME
            event_name = name.FALLBACK_EVENT if hop_name == FALLBACK else hop_name
            events.append(Event(event_name, {attribute: outcome}, _nanoseconds(request, start)))
    events += [
        not_sent_event(attempt, _nanoseconds(request, attempt.started))
        for attempt in request.attempts
        if not attempt.sent
    ]
    return sorted(events, key=lambda event: event.timestamp)


def _instant(hop: tuple[str, int, int, str]) -> bool:
    hop_name, start, end, _ = hop
    return hop_name == FALLBACK or start == end


def _context(request: KeptRequest, span_id: str, remote: bool = False) -> SpanContext:
    return SpanContext(int(request.trace_id, 16), int(span_id, 16), remote, _SAMPLED)


def _nanoseconds(request: KeptRequest, microseconds: int) -> int:
    return request.started_at + microseconds * 1000
