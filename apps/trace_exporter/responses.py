"""The collector's response to an export. The SDK's exporters count a redirect, and spans that the collector rejected in
a response of 200, as exported."""

from typing import Protocol

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf has no types
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse


class HttpResponse(Protocol):
    """What is needed of a response of `requests`."""

    status_code: int

    @property
    def content(self) -> bytes:
        """Return the body."""


class CollectorResponse:
    """The response to the last export request."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget the response before the next export."""
        self._redirect = 0
        self._rejected = 0
        self._message = ""

    def lost(self, spans: int) -> int:
        """Return how many of the spans of an export the collector did not take, although the SDK reports success."""
        return spans if self._redirect else min(max(self._rejected, 0), spans)

    @property
    def reason(self) -> str:
        """Return why spans were not taken."""
        if self._redirect:
            return f"the collector responded with {self._redirect}, which is not followed; correct the endpoint"
        return f"the collector rejected spans: {self._message or 'without a message'}"

    def note_http(self, response: HttpResponse, *_: object, **__: object) -> None:
        """Note a response of HTTP; a hook of a `requests` session."""
        self.clear()
        if 300 <= response.status_code < 400:
            self._redirect = response.status_code
        elif response.status_code < 300:
            try:
                self.note(ExportTraceServiceResponse.FromString(response.content))
            except DecodeError:
                return  # a collector that responds with JSON or with a text

    def note(self, response: ExportTraceServiceResponse) -> None:
        """Note a decoded response."""
        self._rejected = response.partial_success.rejected_spans
        self._message = response.partial_success.error_message
