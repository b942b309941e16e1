"""What a wire format is to the simulator: where the key is, and how failures look. One file for each format."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

JSON_TYPE = "application/json"


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
    """An answer in a format's error shape. `retry_after` is in seconds."""

    status: int
    body: bytes
    retry_after: float | None = None

    def response(self, request_id: str) -> web.Response:
        """The refusal as a response, not yet written."""
        headers = headers_of(request_id, JSON_TYPE)
        if self.retry_after is not None:
            headers["Retry-After"] = f"{self.retry_after:g}"
        return web.Response(status=self.status, body=self.body, headers=headers)


@dataclass(frozen=True, slots=True)
class Pouring:
    """A body without a reasonable end: `head`, `block` again and again, `tail`."""

    head: bytes
    block: bytes
    tail: bytes


class Wire(Protocol):
    """One provider's API."""

    def key(self, headers: Mapping[str, str]) -> str | None:
        """The key that a request carries; None when there is none, or an empty one."""

    def refusal(self, problem: Problem) -> Refusal:
        """How this API says it; a fault without an error status of its own is a server error."""

    def error_json(self) -> bytes:
        """A server error where an answer should be."""

    def error_event(self) -> bytes:
        """The same inside of a stream."""

    def stream_of(self, data: bytes) -> list[bytes]:
        """A stream whose only event has this data, ended as a complete one."""

    def pouring_json(self, block: bytes) -> Pouring:
        """An answer whose text goes on and on."""

    def pouring_events(self, model: str, block: bytes) -> Pouring:
        """A stream of good events that goes on and on."""

    def pouring_line(self, block: bytes) -> Pouring:
        """A stream whose one line has no end."""


def headers_of(request_id: str, content_type: str) -> dict[str, str]:
    """The headers of every answer; Anthropic calls the id `request-id`."""
    return {"Content-Type": content_type, "x-request-id": request_id, "request-id": request_id}


def bearer_or(header: str, headers: Mapping[str, str]) -> str | None:
    """The key of a bearer token or of a header of its own."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get(header) or None


def masked(key: str) -> str:
    """Part of a key, as providers repeat it in their messages: gateways must not pass it on."""
    return f"{key[:8]}{'*' * (len(key) - 12)}{key[-4:]}" if len(key) > 16 else f"{key[:2]}{'*' * 6}"
