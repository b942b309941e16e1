"""Real OTLP receivers, over HTTP and over gRPC, that keep what they receive."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

WAIT_SECONDS = 300.0
"""Only a broken exporter takes so long. Its priority is low, so a busy machine delays it much."""


GARBAGE = 0
"""In place of a status: respond with bytes that are not HTTP."""


@dataclass(frozen=True)
class ReceivedSpan:
    """One span as it arrived."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    failed: bool
    message: str
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    resource: dict[str, Any]


@dataclass
class Received:
    """All spans that a receiver got."""

    endpoint: str = ""
    spans: list[ReceivedSpan] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    """Each request's bytes: what is searched for canaries."""
    requests: int = 0
    fault: Callable[[], int] = lambda: 200
    """Called for each request over HTTP: the status to respond with, or GARBAGE. It may block, as a collector that
    hangs."""
    rejected: int = 0
    """Spans that each response says the collector rejected."""
    changed: threading.Condition = field(default_factory=threading.Condition)

    def trace(self, trace_id: str, spans: int) -> list[ReceivedSpan]:
        """Wait for so many spans of this trace; return them by start."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self._of(trace_id)) >= spans, WAIT_SECONDS), (
                f"{len(self._of(trace_id))} of {spans} spans of {trace_id} arrived"
            )
            return sorted(self._of(trace_id), key=lambda span: (span.start, -span.end))

    def wait_for_requests(self, number: int) -> None:
        """Wait until so many export requests arrived, also failed ones."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.requests >= number, WAIT_SECONDS), self.requests

    def add(self, request: ExportTraceServiceRequest) -> None:
        """Keep the spans of one export request."""
        with self.changed:
            self.raw.append(request.SerializeToString())
            for resource_spans in request.resource_spans:
                resource = _values(resource_spans.resource.attributes)
                for scope_spans in resource_spans.scope_spans:
                    self.spans += [_received(span, resource) for span in scope_spans.spans]
            self.changed.notify_all()

    def response(self) -> ExportTraceServiceResponse:
        """Return the response to a request that was taken, as a whole or in part."""
        if not self.rejected:
            return ExportTraceServiceResponse()
        partial = ExportTracePartialSuccess(rejected_spans=self.rejected, error_message="over the quota")
        return ExportTraceServiceResponse(partial_success=partial)

    def count(self) -> None:
        """Count an export request."""
        with self.changed:
            self.requests += 1
            self.changed.notify_all()

    def _of(self, trace_id: str) -> list[ReceivedSpan]:
        return [span for span in self.spans if span.trace_id == trace_id]


@contextmanager
def http_receiver(existing: Received | None = None, port: int = 0) -> Iterator[Received]:
    """An OTLP receiver over HTTP, on a free port unless one is given. It adds to `existing` if that is given."""
    received = existing or Received()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.count()
            status = received.fault()
            if status == 200:
                assert self.path == "/v1/traces"
                received.add(ExportTraceServiceRequest.FromString(body))
            reply = received.response().SerializeToString()
            try:
                if status == GARBAGE:
                    self.wfile.write(b"\x00\xff garbage \r\n\r\n" * 100)
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)
            except OSError:
                self.close_connection = True  # the exporter stopped waiting

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def __init__(self, address: tuple[str, int]) -> None:
            self.connections: set[socket.socket] = set()
            super().__init__(address, Handler)

        def get_request(self) -> tuple[socket.socket, Any]:
            connection, address = super().get_request()
            self.connections.add(connection)
            return connection, address

        def shutdown_request(self, request: Any) -> None:
            self.connections.discard(request)
            super().shutdown_request(request)

        def server_close(self) -> None:
            super().server_close()
            for connection in list(self.connections):  # a receiver that has ended takes nothing over an idle one either
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

        def handle_error(self, *_: object) -> None:
            pass  # the exporter was killed during a request

    server = Server(("127.0.0.1", port))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    received.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def grpc_receiver() -> Iterator[Received]:
    """An OTLP receiver over gRPC on a free port."""
    received = Received()

    class Service(TraceServiceServicer):
        def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:  # noqa: N802 - gRPC's signature
            received.count()
            received.add(request)
            return received.response()

    server = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(Service(), server)  # type: ignore[no-untyped-call]  # generated code
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    received.endpoint = f"http://127.0.0.1:{port}"
    try:
        yield received
    finally:
        server.stop(grace=None).wait()


def _received(span: Any, resource: dict[str, Any]) -> ReceivedSpan:
    return ReceivedSpan(
        name=span.name,
        kind=span.kind,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        failed=span.status.code == 2,
        message=span.status.message,
        attributes=_values(span.attributes),
        events=[(event.name, _values(event.attributes)) for event in span.events],
        resource=resource,
    )


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in _typed(pairs)}


def _typed(pairs: Any) -> list[KeyValue]:
    return list(pairs)


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None
