"""Where a request is sent, and how its head is written."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from platform_app.llm.http.transport.tls import ClientCertificate

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110, section 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*")  # no line ends: a value with one could add headers


class Address(NamedTuple):
    """Where a connection leads. It is a tuple because it is a dictionary key of every request."""

    host: str
    port: int
    tls: bool
    client: ClientCertificate | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """An address and the path that is requested there."""

    address: Address
    path: bytes
    """The path with the query, as it is written in the request line."""
    host: bytes
    """The value of the Host header."""


@lru_cache(maxsize=1024)
def target_of(url: str, client: ClientCertificate | None = None) -> Target:
    """Return the target of an http:// or https:// URL of the config file. Raises ValueError if the URL is not valid."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected an http:// or https:// URL with a host")
    tls = parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    name = parts.hostname.encode("idna" if not parts.hostname.isascii() else "ascii").decode()
    shown = f"[{name}]" if ":" in name else name
    host = shown if parts.port is None else f"{shown}:{port}"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.isascii() or not path.isprintable() or " " in path:
        raise ValueError("expected a URL whose path is percent-encoded")
    return Target(Address(name, port, tls, client), path.encode(), host.encode())


def header_lines(headers: Mapping[str, str]) -> bytes:
    """Return headers as they are written in a head, each with its line end.

    Raises:
        ValueError: a name or a value has characters that headers cannot have. The message has the name only.
    """
    lines = []
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"The header {name!r} cannot be sent: it has a character that headers cannot have")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode()


def request_head(method: bytes, target: Target, headers: bytes, length: int | None) -> bytes:
    """Return the head of a request. `length` is that of its body; None: it has no body."""
    size = b"" if length is None else b"Content-Length: %d\r\n" % length
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b\r\n" % (method, target.path, target.host, headers, size)
