"""A seeded stream of requests: some in good order, some bent in one to three places."""

import random
from dataclasses import dataclass

_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "M-SEARCH")
_TARGETS = ("/", "/a", "/a/b?c=d", "/%20x?q=%2F", "/a%2Fb", "http://host.example/x?y", "/?", "/a;b=c", "/~u/!$&'()*+,")
_FIELDS = (
    "Accept: */*",
    "X-Empty:",
    "X-Padded: \t value \t",
    "Content-Type: application/json",
    "Upgrade: h2c",
    "Connection: keep-alive",
    "Connection: Upgrade, HTTP2-Settings",
    "Expect: 100-continue",
    "TE: trailers",
    "Trailer: X-Sum",
    "Cookie: a=b; c=d",
    "x-lower: 1",
    "X_Under: 1",
    "Via: 1.1 proxy",
)
_ODD_LINES = (
    "Content-Length: 3",
    "Content-Length: 3, 3",
    "Content-Length: +3",
    "Content-Length: 0x3",
    "Content-Length : 3",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding:\x0bchunked",
    "Transfer-Encoding: chunked, chunked",
    "Host: elsewhere",
    "Host: a b",
    " folded: 1",
    "\tfolded",
    "no colon",
    ": no name",
    "X: a\rb",
    "X: a\nb",
    "X: a\0b",
    "X\x7f: a",
    "Expect: something-else",
    "Connection: close",
    "X: caf\xe9",
)
_ODD_BYTES = (
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b"\x0b",
    b"\x7f",
    b"\xff",
    b"0\r\n\r\n",
    b"\r\n\r\n",
    b",",
)
_EXTENSIONS = ("", "", "", ";a", ";a=b", ';a="b c"', "; x")
_VERSIONS = ("HTTP/1.0", "HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "http/1.1", "HTTP/1.1 ", "")


@dataclass(frozen=True, slots=True)
class Stream:
    """The bytes of one connection; `requests` of them in good order, or None if they were bent."""

    data: bytes
    good_requests: int | None


def stream(seed: int) -> Stream:
    """Make the stream of a seed: always the same."""
    source = random.Random(seed)
    requests = [_request(source) for _ in range(source.randint(1, 4))]
    data = b"".join(requests)
    if source.random() < 0.25:
        return Stream(data, len(requests))
    for _ in range(source.randint(1, 3)):
        data = source.choice(_BENDS)(source, data)
    return Stream(data, None)


def cut(data: bytes, seed: int) -> list[bytes]:
    """Cut a stream into chunks at random bytes; sometimes into single bytes."""
    source = random.Random(seed)
    size = source.choice((1, 2, 7, 40, 400))
    chunks = []
    at = 0
    while at < len(data):
        step = source.randint(1, size)
        chunks.append(data[at : at + step])
        at += step
    return chunks


def _request(source: random.Random) -> bytes:
    lines = [
        f"{source.choice(_METHODS)} {source.choice(_TARGETS)} HTTP/1.1",
        "Host: host.example",
        *source.sample(_FIELDS, source.randint(0, 4)),
    ]
    body = bytes(source.randrange(256) for _ in range(source.choice((0, 1, 9, 60))))
    framing = source.choice(("none", "length", "chunked", "chunked"))
    if framing == "none":
        body = b""
    elif framing == "length":
        lines.insert(source.randint(1, len(lines)), f"Content-Length: {len(body)}")
    else:
        lines.insert(source.randint(1, len(lines)), "Transfer-Encoding: chunked")
        body = _chunked(source, body)
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _chunked(source: random.Random, body: bytes) -> bytes:
    out = b""
    while body:
        size = source.randint(1, len(body))
        out += f"{size:x}{source.choice(_EXTENSIONS)}\r\n".encode() + body[:size] + b"\r\n"
        body = body[size:]
    trailers = "".join(f"X-Trailer-{number}: v\r\n" for number in range(source.choice((0, 0, 1, 3))))
    return out + f"0{source.choice(_EXTENSIONS)}\r\n{trailers}\r\n".encode()


def _insert_bytes(source: random.Random, data: bytes) -> bytes:
    at = source.randrange(len(data) + 1)
    return data[:at] + source.choice(_ODD_BYTES) + data[at:]


def _replace_byte(source: random.Random, data: bytes) -> bytes:
    at = source.randrange(len(data) or 1)
    return data[:at] + bytes([source.randrange(256)]) + data[at + 1 :]


def _delete_bytes(source: random.Random, data: bytes) -> bytes:
    at = source.randrange(len(data) or 1)
    return data[:at] + data[at + source.randint(1, 4) :]


def _add_line(source: random.Random, data: bytes) -> bytes:
    """Put an odd header behind a line."""
    lines = data.split(b"\r\n")
    lines.insert(source.randint(1, min(len(lines), 6)), source.choice(_ODD_LINES).encode("latin-1"))
    return b"\r\n".join(lines)


def _repeat_line(source: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    at = source.randrange(min(len(lines), 8))
    return b"\r\n".join([*lines[: at + 1], *lines[at:]])


def _bend_line_end(source: random.Random, data: bytes) -> bytes:
    """End one line otherwise."""
    lines = data.split(b"\r\n")
    at = source.randrange(len(lines))
    ending = source.choice((b"\n", b"\r", b"\r\r\n", b"\n\r", b""))
    return b"\r\n".join(lines[: at + 1]) + ending + b"\r\n".join(lines[at + 1 :])


def _change_version(source: random.Random, data: bytes) -> bytes:
    return data.replace(b"HTTP/1.1", source.choice(_VERSIONS).encode(), 1)


def _change_digit(source: random.Random, data: bytes) -> bytes:
    """Change a digit: of a length or of a chunk's size, often."""
    places = [at for at, byte in enumerate(data) if chr(byte) in "0123456789"]
    at = source.choice(places or [0])
    return data[:at] + source.choice((b"0", b"1", b"9", b"a", b"+1", b" 5", b"5 ", b"_")) + data[at + 1 :]


def _empty_line_first(source: random.Random, data: bytes) -> bytes:
    return source.choice((b"\r\n", b"\r\n\r\n", b"\n", b" \r\n")) + data


_BENDS = (
    _insert_bytes,
    _replace_byte,
    _delete_bytes,
    _add_line,
    _add_line,
    _repeat_line,
    _bend_line_end,
    _change_version,
    _change_digit,
    _empty_line_first,
)
