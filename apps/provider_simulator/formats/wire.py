"""The interface of a wire format: where the key is, and how failures look. Each format has its own module."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from aiohttp import web

JSON_TYPE = "application/json"
WireName = Literal["chat", "responses", "messages"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request is refused: a fault of the catalog, or `invalid`, `no-key`, `unknown-url`.

    `value` is the fault's parameter; `message` and `param` are those of an invalid request.
    """

    name: str
    model: str = ""
    key: str = ""
    value: float = 0.0
    message: str = ""
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error response in a format's shape. `retry_after` is in seconds."""

    status: int
    body: bytes
    retry_after: float | None = None

    def response(self, request_id: str) -> web.Response:
        """Return the error as a response that is not yet written."""
        headers = headers_of(request_id, JSON_TYPE)
        if self.retry_after is not None:
            headers["Retry-After"] = f"{self.retry_after:g}"
        return web.Response(status=self.status, body=self.body, headers=headers)


@dataclass(frozen=True, slots=True)
class Pouring:
    """A very large body: `head`, then `block` repeatedly, then `tail`."""

    head: bytes
    block: bytes
    tail: bytes


class Wire(Protocol):
    """One provider's API."""

    @property
    def name(self) -> WireName:
        """The format of its responses and events."""

    def key(self, headers: Mapping[str, str]) -> str | None:
        """Return the key of a request; None if it is missing or empty."""

    def refusal(self, problem: Problem) -> Refusal:
        """Return the error of a fault in this format. A fault without its own error status is a server error."""

    def error_json(self) -> bytes:
        """Return a server error as the body of a 200."""

    def error_event(self) -> bytes:
        """Return a server error as an event of a stream."""

    def failed_json(self, body: bytes) -> bytes:
        """Return a good response as one that failed, if the format has that, else `error_json`."""

    def failed_event(self, body: bytes) -> bytes:
        """Return the same as the last event of a stream, else `error_event`."""

    def stream_of(self, data: bytes) -> list[bytes]:
        """Return a complete stream whose only event has this data."""

    def pouring_json(self, block: bytes) -> Pouring:
        """Return a JSON response with a very long text."""

    def pouring_events(self, model: str, block: bytes) -> Pouring:
        """Return a stream with very many good events."""

    def pouring_line(self, block: bytes) -> Pouring:
        """Return a stream with one very long line."""


def headers_of(request_id: str, content_type: str) -> dict[str, str]:
    """Return the headers of every response; Anthropic names the id `request-id`."""
    return {"Content-Type": content_type, "x-request-id": request_id, "request-id": request_id}


def bearer_or(header: str, headers: Mapping[str, str]) -> str | None:
    """Return the key of a bearer token or of a key header."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get(header) or None


def masked(key: str) -> str:
    """Return a part of a key, as providers repeat it in messages; gateways must not forward it."""
    return f"{key[:8]}{'*' * (len(key) - 12)}{key[-4:]}" if len(key) > 16 else f"{key[:2]}{'*' * 6}"
