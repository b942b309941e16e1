"""The responses to bytes that are not a valid request, or that exceed a limit of the server."""

from dataclasses import dataclass
from enum import StrEnum

import orjson

from platform_app.core_contracts import error_response
from platform_app.observability import ids
from platform_app.observability.tracing.trace_context import continue_trace


class Reason(StrEnum):
    """The reason for a refusal, a label of `platform_http_refused_total`. docs/http.md describes each response."""

    REQUEST_LINE = "request_line"
    HTTP_VERSION = "http_version"
    HEADER_FIELD = "header_field"
    HEAD_TOO_LARGE = "head_too_large"
    TOO_MANY_HEADERS = "too_many_headers"
    HOST = "host"
    TARGET = "target"
    BODY_LENGTH = "body_length"
    TRANSFER_ENCODING = "transfer_encoding"
    EXPECTATION = "expectation"
    METHOD = "method"
    CHUNK = "chunk"
    TRAILERS_TOO_LARGE = "trailers_too_large"
    BODY_SLOW = "body_slow"
    BODY_TOO_LARGE = "body_too_large"
    BODIES_IN_FLIGHT = "bodies_in_flight"
    HEADS_IN_FLIGHT = "heads_in_flight"
    HEAD_SLOW = "head_slow"
    IDLE = "idle"
    READER_SLOW = "reader_slow"
    PIPELINE = "pipeline"
    UNREAD_BODY = "unread_body"
    CONNECTIONS = "connections"
    CONNECTIONS_PER_ADDRESS = "connections_per_address"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A response that ends the connection."""

    status: int
    code: str
    """The error code in the body; see docs/http/errors.md."""
    reason: Reason
    message: str
    """The message for the client's developer. It contains nothing that the client sent."""


class RequestRefusedError(Exception):
    """The bytes are not a valid request. The server reads no more bytes of the connection, since it cannot know where
    the next request begins."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def refuse(reason: Reason, message: str, status: int = 400, code: str = "invalid_request") -> RequestRefusedError:
    """Return the error to raise."""
    return RequestRefusedError(Refusal(status, code, reason, message))


def refusal_response(refusal: Refusal, common_headers: bytes) -> bytes:
    """Return the bytes of the whole response. Its body is that of every error of the gateway."""
    request_id = ids.request_id()
    trace = continue_trace(None)
    body = orjson.dumps(error_response(refusal.code, refusal.message, request_id, None))
    return (
        b"HTTP/1.1 %d %b\r\n%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n"
        b"x-request-id: %b\r\ntraceparent: %b\r\n\r\n%b"
    ) % (
        refusal.status, _PHRASES[refusal.status], common_headers, len(body), request_id.encode(),
        trace.traceparent.encode(), body,
    )  # fmt: skip


_PHRASES = {
    400: b"Bad Request",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    417: b"Expectation Failed",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
    505: b"HTTP Version Not Supported",
}
