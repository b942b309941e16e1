"""Requests in their ordinary form, for the cases to bend."""

from collections.abc import Sequence

from tests.attacks.corpus.case import CHAT, KEY_TEXT, TOKEN, echo_of


def head(line: str, *headers: str, host: str | None = "gateway") -> bytes:
    """A request line and headers, each ended by CRLF, and the empty line."""
    lines = [line, *([f"Host: {host}"] if host is not None else []), *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def get(path: str = "/livez", *headers: str, name: str = "1", host: str | None = "gateway") -> bytes:
    """A GET without a body."""
    return head(f"GET {path} HTTP/1.1", request_id(name), *headers, host=host)


def hidden(path: str = "/livez") -> bytes:
    """Return a request that hides in the body of another request: it must never get a response."""
    return head(f"GET {path} HTTP/1.1", f"X-Request-ID: {TOKEN}-inner")


def hidden_slow() -> bytes:
    """A hidden request that takes a while: a proxy gives the connection to a victim before the response is there."""
    body = b'{"model": "sim-delay", "prompt": "%b"}' % echo_of(f"{TOKEN}-inner")
    return chat(body, sized(body), name="inner")


def hidden_prefix() -> bytes:
    """The start of a hidden request: a victim's head would become the value of its last header."""
    return head("GET /v1/models HTTP/1.1", f"X-Request-ID: {TOKEN}-inner", "X-Swallowed: ").removesuffix(b"\r\n\r\n")


def hidden_far() -> bytes:
    """A slow one behind so many empty lines that a server reads it apart from the head, even if a proxy sends all at
    once."""
    return b"\r\n" * 200_000 + hidden_slow()


HIDDEN = {"slow": hidden_slow, "prefix": hidden_prefix, "far": hidden_far}
"""Requests that hide in a body, and harm the next client of a shared connection."""


def prompt(name: str = "1") -> bytes:
    """The body of a chat whose response repeats the id."""
    return b'{"prompt": "%b"}' % echo_of(f"{TOKEN}-{name}")


def chat(body: bytes, *headers: str, name: str = "1", line: str | None = None) -> bytes:
    """A chat with a good key, whose body is sent as it is: the headers must frame it."""
    return head(line or CHAT_LINE, request_id(name), KEY, JSON, *headers) + body


def sized(body: bytes) -> str:
    """The Content-Length of a body."""
    return f"Content-Length: {len(body)}"


def request_id(name: str = "1") -> str:
    """The header that names a request."""
    return f"X-Request-ID: {TOKEN}-{name}"


def chunked(*chunks: bytes, extension: str = "", trailers: Sequence[str] = ()) -> bytes:
    """A chunked body."""
    body = b"".join(f"{len(chunk):x}{extension}\r\n".encode() + chunk + b"\r\n" for chunk in chunks)
    return body + "".join(["0\r\n", *(f"{line}\r\n" for line in trailers), "\r\n"]).encode("latin-1")


CHAT_LINE = f"POST {CHAT} HTTP/1.1"
KEY = f"Authorization: Bearer {KEY_TEXT}"
JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"
