"""The strict reading of a connection: h11's (it comes with uvicorn), and a refusal wherever h11 is known to be lenient.

Each function named `_refuse_…` closes one leniency of h11 0.16. RFC 9112 allows a server some of them, but a proxy in
front may read the same bytes in another way, so this gateway has to refuse them all. Where h11 is stricter than the RFC
(an empty line before a request, section 2.2), one CRLF is skipped before h11 sees it.
"""

import re

import h11

from tests.attacks.differential.reading import Reading, ReadRequest

_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BARE_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_FOLD = re.compile(rb"\r\n[ \t]")
_HOST = re.compile(rb"(([A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_CHUNK_LINE = re.compile(rb"[0-9A-Fa-f]+(;[\t\x20-\x7e\x80-\xff]*)?")


class _RefusedError(Exception):
    """The bytes that follow are no request."""


def read_strictly(data: bytes) -> Reading:
    """Read all complete requests, up to the first that must be refused or that ends the connection."""
    requests: list[ReadRequest] = []
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1024 * 1024)
    try:
        while data:
            data = data.removeprefix(b"\r\n")
            if not data:
                break
            parser.receive_data(data)
            found, rest = _next_request(parser, data)
            if found is None:
                break
            requests.append(found)
            if not _respond(parser):
                break
            data = rest
            # A separate parser for each request, so that the positions of its bytes are known.
            parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1024 * 1024)
    except (h11.RemoteProtocolError, _RefusedError) as refusal:
        return Reading(tuple(requests), refused=True, reason=str(refusal))
    return Reading(tuple(requests), refused=False)


def _next_request(parser: h11.Connection, data: bytes) -> tuple[ReadRequest | None, bytes]:
    head: h11.Request | None = None
    head_end = 0
    body = b""
    while True:
        event = parser.next_event()
        if isinstance(event, h11.Request):
            head = event
            head_end = len(data) - len(parser.trailing_data[0])
            _check_head(head, data[:head_end])
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            rest = parser.trailing_data[0]
            framed = data[head_end : len(data) - len(rest)]
            if _has(head, b"transfer-encoding"):
                _refuse_lenient_chunks(framed)
            return ReadRequest(head.method.decode(), _path_of(head), tuple(head.headers), body), rest
        else:
            return None, b""  # more bytes are needed


def _respond(parser: h11.Connection) -> bool:
    """Respond with 200, which declines an upgrade; return whether the connection stays open."""
    parser.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
    parser.send(h11.EndOfMessage())
    return parser.our_state is h11.DONE


def _check_head(head: h11.Request, raw: bytes) -> None:
    _refuse_line_ends(raw)
    _refuse_control_characters(raw)
    _refuse_other_versions(head)
    _refuse_two_framings(head, raw)
    _refuse_malformed_host(head)
    _refuse_other_targets(head)
    _refuse_other_expectations(head)


def _refuse_line_ends(raw: bytes) -> None:
    """h11 takes a bare LF for a line's end and joins folded lines; a bare CR within a line is no token and refused."""
    if _BARE_LINE_END.search(raw):
        raise _RefusedError("bare CR or LF")
    if _FOLD.search(raw):
        raise _RefusedError("folded line")


def _refuse_control_characters(raw: bytes) -> None:
    """h11 refuses NUL and white space in values, and takes every other control character."""
    if _CONTROL.search(raw):
        raise _RefusedError("control character")


def _refuse_other_versions(head: h11.Request) -> None:
    """h11 takes any two digits."""
    if head.http_version not in (b"1.0", b"1.1"):
        raise _RefusedError(f"version {head.http_version!r}")


def _refuse_two_framings(head: h11.Request, raw: bytes) -> None:
    """h11 prefers Transfer-Encoding over Content-Length, joins equal lengths, and takes chunks from HTTP/1.0."""
    encoded = _has(head, b"transfer-encoding")
    lengths = [line for line in raw.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    if encoded and lengths:
        raise _RefusedError("Content-Length and Transfer-Encoding")
    if encoded and head.http_version == b"1.0":
        raise _RefusedError("Transfer-Encoding in HTTP/1.0")
    if len(lengths) > 1 or any(b"," in line for line in lengths):
        raise _RefusedError("repeated Content-Length")


def _refuse_malformed_host(head: h11.Request) -> None:
    """h11 counts Host headers of HTTP/1.1 and does not look at their values, nor at those of HTTP/1.0."""
    hosts = [value for name, value in head.headers if name == b"host"]
    if len(hosts) > 1 or any(_HOST.fullmatch(host) is None for host in hosts):
        raise _RefusedError("malformed Host")


def _refuse_other_targets(head: h11.Request) -> None:
    """h11 takes every target without spaces."""
    if head.method == b"CONNECT":
        raise _RefusedError("CONNECT")
    if b"#" in head.target:
        raise _RefusedError("fragment")
    if head.target == b"*" and head.method == b"OPTIONS":
        return
    absolute = _ABSOLUTE.fullmatch(head.target)
    if not head.target.startswith(b"/") and (absolute is None or _HOST.fullmatch(absolute[1]) is None):
        raise _RefusedError("target")


def _refuse_other_expectations(head: h11.Request) -> None:
    """h11 leaves unknown expectations to the application."""
    if any(value.lower() not in (b"100-continue", b"") for name, value in head.headers if name == b"expect"):
        raise _RefusedError("expectation")


def _refuse_lenient_chunks(framed: bytes) -> None:
    """h11 takes white space behind a chunk's size, any byte in an extension, and lenient lines in trailers."""
    at = 0
    while True:
        end = framed.index(b"\r\n", at)
        line = framed[at:end]
        if _CHUNK_LINE.fullmatch(line) is None:
            raise _RefusedError("chunk line")
        size = int(line.partition(b";")[0], 16)
        at = end + 2
        if size == 0:
            break
        at += size + 2
    _refuse_line_ends(framed[at:])
    _refuse_control_characters(framed[at:])


def _has(head: h11.Request, wanted: bytes) -> bool:
    return any(name == wanted for name, _ in head.headers)


def _path_of(head: h11.Request) -> bytes:
    """Return the target as origin-form: of an absolute one its path and query.

    ASGI cannot distinguish an empty query from a missing one.
    """
    absolute = _ABSOLUTE.fullmatch(head.target)
    if head.target.startswith((b"/", b"*")) or absolute is None:
        return head.target.removesuffix(b"?")
    rest = absolute[2].removesuffix(b"?")
    return rest if rest.startswith(b"/") else b"/" + rest
