"""A request's head: RFC 9112 read strictly. What two programs could read in two ways is refused.

A proxy in front of this server and the server itself must agree on where each request ends. Every leniency of one of
them is a place where a request can be hidden from the other, so none is built in here: line ends are CRLF, a field is
one line, a body's length is declared once, `Upgrade` changes nothing.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from apps.platform_api.server.refusal import Reason, RequestRefusedError, refuse

HEAD_END = b"\r\n\r\n"
MAX_METHOD = 32
MAX_CONTENT_LENGTH_DIGITS = 18

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
# Possessive quantifiers: each is linear in the length of its input.
_REQUEST_LINE = re.compile(rb"(%b{1,%d}+) ([\x21-\x7e]++) HTTP/(1\.[01])" % (_TOKEN, MAX_METHOD))
_OTHER_VERSION = re.compile(rb"%b++ [\x21-\x7e]++(?: HTTP/\d++(?:\.\d++)?)?" % _TOKEN)
_FIELDS = re.compile(rb"(?:\r\n%b++:[\t\x20-\x7e\x80-\xff]*+)*+" % _TOKEN)
_FIELD = re.compile(rb"\r\n([^:]++):[ \t]*+([^\r]*+)")
_HOST = re.compile(rb"(?:[A-Za-z0-9\-._~%!$&'()*+,;=]++|\[[0-9A-Fa-f:.]++\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*+)(.*+)", re.IGNORECASE)
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SLASH = re.compile("(%2f)", re.IGNORECASE)
_FIRST = re.compile(_TOKEN)
FORBIDDEN = re.compile(rb"(?<!\r)\n|\r[^\n]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""Malformed line ends, and bytes that no head and no trailer may contain."""


@dataclass(slots=True)
class RequestHead:
    """What a head says, and how the body behind it is sent."""

    method: str
    path: str
    """Percent-decoded, except for encoded slashes: those are data, never separators."""
    raw_path: bytes
    query: bytes
    version: str
    """`1.0` or `1.1`."""
    headers: list[tuple[bytes, bytes]]
    """Lower-case names; values without surrounding white space."""
    keep_alive: bool
    content_length: int = 0
    chunked: bool = False
    expects_continue: bool = False


def parse_head(data: bytes, max_headers: int) -> RequestHead:
    """Read a head, given without the empty line at its end.

    Raises:
        RequestRefusedError: it is not well-formed, or holds what this server does not do.
    """
    line_end = data.find(b"\r\n")
    if line_end < 0:
        line_end = len(data)
    line = _REQUEST_LINE.fullmatch(data, 0, line_end)
    if line is None:
        raise _bad_line(data[:line_end])
    if _FIELDS.fullmatch(data, line_end) is None:
        raise refuse(
            Reason.HEADER_FIELD,
            "A header field is malformed: expected 'Name: value' on one line that ends in CRLF, the name without "
            "spaces, the value without control characters.",
        )
    fields = _FIELD.findall(data, line_end)
    if len(fields) > max_headers:
        raise refuse(
            Reason.TOO_MANY_HEADERS, f"There are more than {max_headers} header fields.", 431, "headers_too_large"
        )
    method, target, version = line[1], line[2], line[3]
    head = RequestHead(method.decode(), "", b"", b"", version.decode(), [], keep_alive=version == b"1.1")
    _read_target(head, target, _read_fields(head, fields))
    return head


def refuse_early(data: bytes | bytearray, seen: int = 0) -> None:
    """Look at a head that is not complete yet: what can no longer become one need not be waited for. The first `seen`
    bytes were looked at before.

    Raises:
        RequestRefusedError: a byte that no head holds, a bare CR or LF, or no method at the begin.
    """
    if FORBIDDEN.search(data, max(0, seen - 1)) is not None or (not seen and _FIRST.match(data) is None):
        raise refuse(Reason.HEADER_FIELD, "The head holds a control character, or a line end other than CRLF.")


def head_too_large(max_bytes: int) -> RequestRefusedError:
    """Return the refusal of a head that exceeds the bound."""
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
    """Take over the fields that frame the message; returns the host."""
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
                    Reason.EXPECTATION, "The only expectation that is met is 100-continue.", 417, "expectation_failed"
                )
    if lengths or codings:
        _read_length(head, lengths, codings)
    return _host(head, hosts)


_FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"})


def _read_connection(head: RequestHead, value: bytes) -> None:
    """`close` ends the connection; nothing else means anything here, `upgrade` least of all."""
    if any(option.strip().lower() == b"close" for option in value.split(b",")):
        head.keep_alive = False


def _read_length(head: RequestHead, lengths: list[bytes], codings: list[bytes]) -> None:
    if codings:
        if lengths:
            raise refuse(Reason.BODY_LENGTH, "Content-Length and Transfer-Encoding exclude each other.")
        if head.version == "1.0":
            raise refuse(Reason.TRANSFER_ENCODING, "HTTP/1.0 has no Transfer-Encoding.")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise refuse(Reason.TRANSFER_ENCODING, "The only Transfer-Encoding that is taken is chunked, once.")
        head.chunked = True
        return
    length = lengths[0]
    if len(lengths) > 1 or not length.isdigit() or len(length) > MAX_CONTENT_LENGTH_DIGITS:
        raise refuse(Reason.BODY_LENGTH, "Content-Length must be one number of bytes, once.")
    head.content_length = int(length)


def _host(head: RequestHead, hosts: list[bytes]) -> bytes | None:
    """Exactly one in HTTP/1.1: without it, or with two, a proxy and this server may mean different ones."""
    if len(hosts) == 1:
        if not _is_host(hosts[0]):
            raise refuse(Reason.HOST, "The Host header is malformed: expected a name or an address, and a port.")
        return hosts[0]
    if hosts or head.version == "1.1":
        raise refuse(Reason.HOST, "Exactly one Host header is needed.")
    return None


@lru_cache(256)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def _read_target(head: RequestHead, target: bytes, host: bytes | None) -> None:
    if not target.startswith(b"/"):
        target = _path_of(head, target, host)
    path, _, head.query = target.partition(b"?")
    if b"#" in target:
        raise refuse(Reason.TARGET, "The request target holds a fragment ('#'), which is not sent to servers.")
    head.raw_path = path
    head.path = path.decode() if b"%" not in path else _decoded(path)


def _path_of(head: RequestHead, target: bytes, host: bytes | None) -> bytes:
    """The path of a target in another form than `/path`."""
    if head.method == "CONNECT":
        raise refuse(Reason.METHOD, "This server is no proxy: it does not take CONNECT.", 405, "method_not_allowed")
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
        raise refuse(Reason.TARGET, "The request target holds '%' without two hexadecimal digits behind it.")
    return "".join(part if index % 2 else unquote(part) for index, part in enumerate(_SLASH.split(path.decode())))
