"""Requests in their ordinary form, for the cases to bend."""

from collections.abc import Sequence

from tests.attacks.corpus.case import CHAT, TOKEN, echo_of


def head(line: str, *headers: str, host: str | None = "gateway") -> bytes:
    """A request line and headers, each ended by CRLF, and the empty line."""
    lines = [line, *([f"Host: {host}"] if host is not None else []), *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def get(path: str = "/livez", *headers: str, name: str = "1", host: str | None = "gateway") -> bytes:
    """A GET without a body."""
    return head(f"GET {path} HTTP/1.1", request_id(name), *headers, host=host)


def hidden(path: str = "/livez") -> bytes:
    """A request that hides in another one's body: it must never get a response."""
    return head(f"GET {path} HTTP/1.1", f"X-Request-ID: {TOKEN}-inner")


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
KEY = "Authorization: Bearer @KEY@"
JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"
