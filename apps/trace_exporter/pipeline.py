"""The SDK's part: resource, batches, and the OTLP exporter, configured by the standard OTEL_* variables."""

import logging
import os
import socket
import threading

from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from apps.trace_exporter.conventions import SERVICE
from apps.trace_exporter.counted import DROPPED, CountedExporter
from apps.trace_exporter.environment import GRPC
from apps.trace_exporter.responses import CollectorResponse
from platform_app.observability.metrics import TRACE_SPANS

PROTOCOL_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
HTTP = "http/protobuf"
_PROTOCOLS = (HTTP, GRPC)
_CREDENTIAL_PROVIDERS = ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
                         "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER")  # fmt: skip
QUEUE_VARIABLE = "OTEL_BSP_MAX_QUEUE_SIZE"
_DEFAULT_QUEUE = 2048
"""Spans; about 4 MiB."""


def resource(version: str) -> Resource:
    """Return the resource: OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME, completed by what this service calls
    itself."""
    found = Resource.create()
    defaults = {SERVICE_VERSION: version, SERVICE_INSTANCE_ID: socket.gethostname()}
    if str(found.attributes[SERVICE_NAME]).startswith("unknown_service"):  # the SDK's default
        found = found.merge(Resource({SERVICE_NAME: SERVICE}))
    # The host's name identifies a replica; the SDK's own default is a new random id in each process.
    given = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    missing = {key: value for key, value in defaults.items() if f"{key}=" not in given}
    return found.merge(Resource(missing))


def protocol_problem() -> str | None:
    """Return why the protocol of the environment cannot be used, with its variable and value; None if it can."""
    variable, protocol = _protocol()
    return None if protocol in _PROTOCOLS else f"{variable} is {protocol!r}; use {' or '.join(_PROTOCOLS)}."


def otlp_exporter(response: CollectorResponse) -> SpanExporter:
    """Return the exporter for the protocol of the environment, which notes the collector's responses. gRPC is imported
    only if it is used: it takes 16 MB."""
    if _protocol()[1] == GRPC:
        from apps.trace_exporter.grpc_exporter import GrpcExporter  # noqa: PLC0415 - see above

        return GrpcExporter(response)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - as gRPC's

    if any(os.environ.get(name) for name in _CREDENTIAL_PROVIDERS):
        return OTLPSpanExporter()  # a session of the operator's own program
    import requests  # noqa: PLC0415 - of this exporter alone

    session = requests.Session()
    session.hooks["response"].append(response.note_http)
    return OTLPSpanExporter(session=session)


def _protocol() -> tuple[str, str]:
    variable = next((name for name in PROTOCOL_VARIABLES if os.environ.get(name)), PROTOCOL_VARIABLES[1])
    return variable, os.environ.get(variable, HTTP).strip().lower()


class Pipeline:
    """The SDK's batch processor, with a bound that drops whole traces and counts them."""

    def __init__(self, exporter: SpanExporter, response: CollectorResponse) -> None:
        self._counted = CountedExporter(exporter, response)
        for library in ("opentelemetry", "urllib3", "grpc"):
            logger = logging.getLogger(library)
            logger.addHandler(self._counted.reason)
            logger.propagate = False  # one line a minute reports failures, with the first reason
        self._processor = BatchSpanProcessor(self._counted)
        self._queue_size = _queue_size()
        self._submitted = 0

    def submit(self, spans: list[ReadableSpan]) -> bool:
        """Queue the spans of one trace, or drop and count all of them if the queue is too full. Never waits."""
        if self._submitted - self._counted.taken + len(spans) > self._queue_size:
            TRACE_SPANS.labels(DROPPED).inc(len(spans))
            return False
        self._submitted += len(spans)
        for span in spans:
            self._processor.on_end(span)
        return True

    def close(self, seconds: float) -> None:
        """Export what is queued, within this time; count the rest as dropped."""
        closing = threading.Thread(target=self._processor.shutdown, daemon=True)
        closing.start()
        closing.join(seconds)
        if (left := self._submitted - self._counted.done) > 0:
            TRACE_SPANS.labels(DROPPED).inc(left)


def _queue_size() -> int:
    """Return the SDK's bound, which it does not offer."""
    given = os.environ.get(QUEUE_VARIABLE, "")
    return int(given) if given.isdecimal() and int(given) > 0 else _DEFAULT_QUEUE
