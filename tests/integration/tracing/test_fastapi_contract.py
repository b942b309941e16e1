"""Our server span against that of opentelemetry-instrumentation-fastapi for the same request.

Deliberate differences, each asserted below:

- `http.route` of an unknown path is absent in both. The instrumentation names such a span by its method, as we do.
- `error.type` of a 5xx is our error code (`internal_error`) and not the status, which http.response.status_code has.
- `client.port` and `network.peer.*` are absent: the peer is a load balancer or a random port. `client.address` is the
  client's behind trusted proxies, and the peer's without one.
- `url.path` of an unknown path is absent: it may be any text of a client.
- `url.query` is absent: clients put keys into it.
- `server.address` has no port, as the conventions define it. The instrumentation adds a port other than the default.
- The instrumentation adds a span for each ASGI message (`http send`); we have hops instead.
"""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Response
from opentelemetry.instrumentation._semconv import _OpenTelemetrySemanticConventionStability
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from apps.trace_exporter.conventions import GEN_AI
from apps.trace_exporter.spans import SpanBuilder
from tests.support.observability.tracing.kept import PARENT_SPAN, TRACE_ID, kept_request

TRACEPARENT = f"00-{TRACE_ID}-{PARENT_SPAN}-01"
HEADERS = {"user-agent": "OpenAI/Python 3.1.0", "traceparent": TRACEPARENT}
LEFT_OUT = {"client.port", "network.peer.address", "network.peer.port", "url.full", "url.query"}
"""Attributes of the instrumentation that our span does not have; the module's text says why."""


class Instrumented:
    """An app with the gateway's routes, and the server spans that the instrumentation made for it."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(resource=Resource({}))
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})

        @self.app.get("/v1/platform/keys/{key_id}")
        async def read_key(key_id: str) -> dict[str, str]:
            return {"key_id": key_id}

        @self.app.post("/v1/chat/completions")
        async def chat() -> Response:
            return Response("{}", status_code=503)

        @self.app.post("/v1/embeddings")
        async def embeddings() -> Response:
            return Response("{}", status_code=429)

        FastAPIInstrumentor.instrument_app(self.app, tracer_provider=self.provider)

    async def span(self, method: str, path: str) -> ReadableSpan:
        """Send the request and return its server span."""
        transport = httpx.ASGITransport(self.app, client=("198.51.100.7", 40_000))
        async with httpx.AsyncClient(transport=transport, base_url="https://gateway.example:8443") as client:
            await client.request(method, path, headers=HEADERS)
        return next(span for span in self.exporter.get_finished_spans() if span.kind is SpanKind.SERVER)


@pytest.fixture
async def instrumented(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Instrumented]:
    # By default the instrumentation emits the names before the HTTP conventions were stable.
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    monkeypatch.setattr(_OpenTelemetrySemanticConventionStability, "_initialized", False)
    instance = Instrumented()
    yield instance
    FastAPIInstrumentor.uninstrument_app(instance.app)
    instance.provider.shutdown()
    _OpenTelemetrySemanticConventionStability._initialized = False


def _ours(**fields: Any) -> ReadableSpan:
    return SpanBuilder(Resource({}), GEN_AI, "1.0").build(kept_request(hops=[], attempts=[], **fields))[0]


@pytest.mark.parametrize(
    ("method", "path", "route", "status", "reason"),
    [
        ("GET", "/v1/platform/keys/key_1", "/v1/platform/keys/{key_id}", 200, None),
        ("POST", "/v1/chat/completions", "/v1/chat/completions", 503, "overloaded"),
        ("POST", "/v1/embeddings", "/v1/embeddings", 429, "rate_limited"),
        ("GET", "/wp-login.php", "unmatched", 404, "not_found"),
    ],
)
async def test_server_span_equals_that_of_instrumentation(
    instrumented: Instrumented, method: str, path: str, route: str, status: int, reason: str | None
) -> None:
    theirs = await instrumented.span(method, path)
    ours = _ours(method=method, path=path, route=route, status=status, reason=reason)
    assert ours.name == theirs.name
    assert ours.kind is theirs.kind
    assert ours.status.status_code is theirs.status.status_code
    assert ours.parent is not None
    assert theirs.parent is not None
    assert (ours.parent.trace_id, ours.parent.span_id) == (theirs.parent.trace_id, theirs.parent.span_id)
    their_attributes = {key: value for key, value in (theirs.attributes or {}).items() if key not in LEFT_OUT}
    our_attributes = {key: value for key, value in (ours.attributes or {}).items() if not key.startswith("platform.")}
    assert their_attributes.pop("server.address") == "gateway.example:8443"
    assert our_attributes.pop("server.address") == "gateway.example"
    if route == "unmatched":
        assert their_attributes.pop("url.path") == path
    if status >= 500:
        assert their_attributes.pop("error.type") == str(status)
        assert our_attributes.pop("error.type") == reason
    assert our_attributes == their_attributes
