"""What a client gets whose bytes are no request that this server takes."""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why, as the label of `platform_http_refused_total`. docs/http.md says what a client sees of each."""

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
    """As in the body of every error, docs/http.md."""
    reason: Reason
    message: str
    """For the person who must act; holds nothing that the client sent."""


class RequestRefusedError(Exception):
    """The bytes are no request; nothing behind them on the connection can be trusted either."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def refuse(reason: Reason, message: str, status: int = 400, code: str = "invalid_request") -> RequestRefusedError:
    """The error to raise."""
    return RequestRefusedError(Refusal(status, code, reason, message))
