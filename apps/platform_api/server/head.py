"""Parse the head of a request strictly, by RFC 9112. A head that two programs could read in two ways is refused.

A proxy in front of this server and the server must agree on where each request ends. Where one of them is more lenient
than the other, an attacker can hide a request from it (request smuggling). So this parser is never lenient: line ends
are CRLF, a field is one line, a body's length is declared once, and `Upgrade` has no effect.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address
from urllib.parse import unquote

from apps.platform_api.server.refusal import Reason, RequestRefusedError, refuse

HEAD_END = b"\r\n\r\n"
MAX_METHOD = 32
MAX_PORT = 65_535
MAX_CONTENT_LENGTH_DIGITS = 18

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
# Possessive quantifiers: each is linear in the length of its input.
_REQUEST_LINE = re.compile(rb"(%b{1,%d}+) ([\x21-\x7e]++) HTTP/(1\.[01])(?=\r\n|\Z)" % (_TOKEN, MAX_METHOD))
_OTHER_VERSION = re.compile(rb"%b++ [\x21-\x7e]++(?: HTTP/\d++(?:\.\d++)?)?" % _TOKEN)
_FIELDS = re.compile(rb"(?:\r\n%b++:[\t\x20-\x7e\x80-\xff]*+)*+" % _TOKEN)
_FIELD = re.compile(rb"\r\n([^:]++):[ \t]*+([^\r]*+)")
_HOST = re.compile(
    rb"(?:(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})++|\[(?P<ipv6>[0-9A-Fa-f:.]++)\])(?::(?P<port>[0-9]{0,5}))?"
)
_ABSOLUTE = re.compile(rb"https?://([^/?#]*+)(.*+)", re.IGNORECASE)
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SLASH = re.compile("(%2f)", re.IGNORECASE)
_FIRST = re.compile(_TOKEN)
FORBIDDEN = re.compile(rb"(?<!\r)\n|\r[^\n]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""Malformed line ends, and bytes that a head or a trailer must not contain."""


@dataclass(slots=True)
class RequestHead:
    """The fields of a head, and the framing of the body after it."""

    method: str
    path: str
    """Percent-decoded, except for encoded slashes, which are data and not separators."""
    raw_path: bytes
    query: bytes
    version: str
    """`1.0` or `1.1`."""
    headers: list[tuple[bytes, bytes]]
    """Names in lower case; values without surrounding white space."""
    keep_alive: bool
    content_length: int = 0
    chunked: bool = False
    expects_continue: bool = False


def parse_head(data: bytes, max_headers: int) -> RequestHead:
    """Parse a head; `data` is the head without the empty line at its end.

    Raises:
        RequestRefusedError: the head is malformed, or requests something that this server does not support.
    """
    line = _REQUEST_LINE.match(data)
    if line is None:
        raise _bad_line(data.partition(b"\r\n")[0])
    if _FIELDS.fullmatch(data, line.end()) is None:
        raise refuse(
            Reason.HEADER_FIELD,
            "A header field is malformed: expected 'Name: value' on one line that ends in CRLF, the name without "
            "spaces, the value without control characters.",
        )
    fields = _FIELD.findall(data, line.end())
    if len(fields) > max_headers:
        raise refuse(
            Reason.TOO_MANY_HEADERS, f"There are more than {max_headers} header fields.", 431, "headers_too_large"
        )
    method, target, version = line[1], line[2], line[3]
    head = RequestHead(method.decode(), "", b"", b"", version.decode(), [], keep_alive=version == b"1.1")
    _read_target(head, target, _read_fields(head, fields))
    return head


def refuse_early(data: bytes | bytearray, seen: int = 0) -> None:
    """Check an incomplete head, so that a malformed one is refused before its end arrives. The first `seen` bytes were
    checked before.

    Raises:
        RequestRefusedError: the data has a byte that a head must not contain, a bare CR or LF, or does not begin with a
            method.
    """
    # From the last byte that was seen on, which may be a CR. For re, a position before the start is the start.
    if FORBIDDEN.search(data, seen - 1) is not None or (not seen and _FIRST.match(data) is None):
        raise refuse(Reason.HEADER_FIELD, "The head contains a control character, or a line end other than CRLF.")


def head_too_large(max_bytes: int) -> RequestRefusedError:
    """Return the refusal of a head that exceeds the limit."""
    return refuse(
        Reason.HEAD_TOO_LARGE, f"The request's head is larger than {max_bytes} bytes.", 431, "headers_too_large"
    )


def _bad_line(line: bytes) -> RequestRefusedError:
    if _OTHER_VERSION.fullmatch(line) is not None and not line.endswith((b"HTTP/1.1", b"HTTP/1.0")):
        return refuse(
            Reason.HTTP_VERSION, "This server speaks HTTP/1.1 and HTTP/1.0.", 505, "http_version_not_supported"
        )
    return refuse(Reason.REQUEST_LINE, "The request line is malformed: expected 'METHOD /path HTTP/1.1'.")


def _read_fields(head: RequestHead, fields: list[tuple[bytes, bytes]]) -> bytes | None:
    """Read the fields into the head, with the framing of the body. Return the host."""
    hosts: list[bytes] = []
    lengths: list[bytes] = []
    codings: list[bytes] = []
    headers = head.headers
    for given, value in fields:
        name = given.lower()
        if value.endswith((b" ", b"\t")):
            value = value.rstrip(b" \t")
        headers.append((name, value))
        if name in _FRAMING:
            if name == b"host":
                hosts.append(value)
            elif name == b"content-length":
                lengths.append(value)
            elif name == b"transfer-encoding":
                codings.append(value)
            elif name == b"connection":
                _read_connection(head, value)
            elif value.lower() == b"100-continue":
                head.expects_continue = head.version == "1.1"
            else:
                raise refuse(
                    Reason.EXPECTATION, "The only supported expectation is 100-continue.", 417, "expectation_failed"
                )
    if lengths or codings:
        _read_length(head, lengths, codings)
    return _host(head, hosts)


_FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"})


def _read_connection(head: RequestHead, value: bytes) -> None:
    """Read `close`. Other options have no effect, `upgrade` and `keep-alive` included."""
    if any(option.strip().lower() == b"close" for option in value.split(b",")):
        head.keep_alive = False


def _read_length(head: RequestHead, lengths: list[bytes], codings: list[bytes]) -> None:
    if codings:
        if lengths:
            raise refuse(Reason.BODY_LENGTH, "Content-Length and Transfer-Encoding must not be sent together.")
        if head.version == "1.0":
            raise refuse(Reason.TRANSFER_ENCODING, "Transfer-Encoding is not part of HTTP/1.0. Send Content-Length.")
        if [coding.lower() for coding in codings] != [b"chunked"]:
            raise refuse(Reason.TRANSFER_ENCODING, "The only supported Transfer-Encoding is chunked, once.")
        head.chunked = True
        return
    length, *more = lengths
    if more or not length.isdigit() or len(length) > MAX_CONTENT_LENGTH_DIGITS:
        raise refuse(Reason.BODY_LENGTH, "Content-Length must be one number of bytes, once.")
    head.content_length = int(length)


def _host(head: RequestHead, hosts: list[bytes]) -> bytes | None:
    """Return the host. HTTP/1.1 requires exactly one: with none or two, a proxy and this server may use different
    ones."""
    match hosts:
        case [host]:
            if not _is_host(host):
                raise refuse(Reason.HOST, "The Host header is malformed: expected a name or an address, and a port.")
            return host
        case [] if head.version == "1.0":
            return None
        case _:
            raise refuse(Reason.HOST, "Exactly one Host header is required.")


@lru_cache(256)
def _is_host(value: bytes) -> bool:
    """Return whether this is a host of RFC 3986, section 3.2.2, and a port that exists."""
    match = _HOST.fullmatch(value)
    if match is None or int(match["port"] or 0) > MAX_PORT:
        return False
    if match["ipv6"] is None:
        return True
    try:
        IPv6Address(match["ipv6"].decode())
    except ValueError:
        return False
    return True


def _read_target(head: RequestHead, target: bytes, host: bytes | None) -> None:
    if head.method == "CONNECT":  # whatever its target is: what follows belongs to a tunnel and is no request
        raise refuse(Reason.METHOD, "This server is not a proxy; it has no CONNECT.", 405, "method_not_allowed")
    if not target.startswith(b"/"):
        target = _path_of(head, target, host)
    path, _, head.query = target.partition(b"?")
    if b"#" in target:
        raise refuse(Reason.TARGET, "The request target contains a fragment ('#'). Send it without the fragment.")
    head.raw_path = path
    head.path = path.decode() if b"%" not in path else _decoded(path)


def _path_of(head: RequestHead, target: bytes, host: bytes | None) -> bytes:
    """Return the path of a target that does not have the form `/path`."""
    if target == b"*" and head.method == "OPTIONS":
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or not _is_host(absolute[1]):
        raise refuse(Reason.TARGET, "The request target is malformed: expected '/path', percent-encoded.")
    if host is not None and host.lower() != absolute[1].lower():
        raise refuse(Reason.HOST, "The Host header and the request target name different hosts.")
    rest = absolute[2]
    return rest if rest.startswith(b"/") else b"/" + rest


def _decoded(path: bytes) -> str:
    if _BAD_ESCAPE.search(path) is not None:
        raise refuse(Reason.TARGET, "The request target contains '%' without two hexadecimal digits after it.")
    return "".join(part if index % 2 else unquote(part) for index, part in enumerate(_SLASH.split(path.decode())))
