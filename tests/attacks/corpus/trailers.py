"""Trailers and chunks: trailers are read, bounded and dropped; no trailer is a header."""

from collections.abc import Iterator

from tests.attacks.corpus.build import (
    CHAT_LINE,
    CHUNKED,
    JSON,
    KEY,
    chat,
    chunked,
    head,
    prompt,
    request_id,
    sized,
)
from tests.attacks.corpus.case import KEY_TEXT, TOKEN, Case, Reply

_SERVED = (Reply(echo=True),)
_UNAUTHORIZED = (Reply(statuses=frozenset({401})),)


def cases() -> Iterator[Case]:
    """Return trailers that pose as headers, and chunks in every bad shape."""
    yield from _posing()
    yield from _bounded()
    yield from _chunks()


def _posing() -> Iterator[Case]:
    for name, trailer in {
        "authorization": KEY,
        "x-api-key": f"X-API-Key: {KEY_TEXT}",
        "api-key": f"api-key: {KEY_TEXT}",
    }.items():
        data = head(CHAT_LINE, request_id(), JSON, CHUNKED) + chunked(prompt(), trailers=(trailer,))
        # The refusal comes before the body is read, so the connection may end behind it.
        yield Case(f"trailer-{name}", data, _UNAUTHORIZED, ends=None)
    for name, trailer in {
        "request-id": f"X-Request-ID: {TOKEN}-inner",
        "content-type": "Content-Type: text/plain",
        "host": "Host: elsewhere",
        "forwarded": "X-Forwarded-For: 6.6.6.6",
        "content-length": "Content-Length: 5",
        "transfer-encoding": "Transfer-Encoding: chunked",
        "connection": "Connection: close",
        "authorization-of-another": "Authorization: Bearer nonsense",
    }.items():
        yield Case(f"trailer-{name}", chat(chunked(prompt(), trailers=(trailer,)), CHUNKED), _SERVED, or_refused=True)
    without_type = head(CHAT_LINE, request_id(), KEY, CHUNKED) + chunked(prompt(), trailers=(JSON,))
    yield Case("trailer-adds-content-type", without_type, (Reply(statuses=frozenset({415})),), ends=None)
    without_id = head(CHAT_LINE, KEY, JSON, CHUNKED) + chunked(prompt(), trailers=(request_id("inner"),))
    yield Case("trailer-adds-request-id", without_id, (Reply(echo=True, anonymous=True),))


def _bounded() -> Iterator[Case]:
    few = tuple(f"X-Trailer-{number}: value" for number in range(20))
    yield Case("trailers-twenty", chat(chunked(prompt(), trailers=few), CHUNKED), _SERVED)
    for name, trailers in {
        "large": ("X-Trailer: " + "x" * 20_000,),
        "many": tuple(f"X-Trailer-{number}: value" for number in range(2_000)),
        "fold": ("X-Trailer: a", " folded"),
        "space-before-colon": ("X-Trailer : a",),
        "no-colon": ("X-Trailer",),
        "nul": ("X-Trailer: a\0b",),
        "bare-cr": ("X-Trailer: a\rb",),
        "bare-lf": ("X-Trailer: a\nX-Other: b",),
    }.items():
        yield Case(f"trailers-{name}", chat(chunked(prompt(), trailers=trailers), CHUNKED), refused=True)


def _chunks() -> Iterator[Case]:
    said = prompt()
    size = f"{len(said):x}".encode()
    good = size + b"\r\n" + said + b"\r\n0\r\n\r\n"
    yield Case("chunk-one", chat(good, CHUNKED), _SERVED)
    start = said.index(TOKEN.encode())  # what is filled in must stay together
    end = start + len(TOKEN)
    bytewise = [said[at : at + 1] for at in (*range(start), *range(end, len(said)))]
    chunks = [*bytewise[:start], said[start:end], *bytewise[start:]]
    yield Case("chunk-every-byte", chat(chunked(*chunks), CHUNKED), _SERVED)
    yield Case("chunk-upper-case-hex", chat(size.upper() + good[len(size) :], CHUNKED), _SERVED)
    yield Case("chunk-leading-zeros", chat(b"00" + good, CHUNKED), _SERVED, or_refused=True)
    yield Case("chunk-last-of-zeros", chat(good[:-5] + b"000\r\n\r\n", CHUNKED), _SERVED, or_refused=True)
    for name, extension in {"flag": ";a", "value": ";a=b", "quoted": ';a="b c"', "two": ";a=b;c=d"}.items():
        yield Case(
            f"chunk-extension-{name}", chat(chunked(said, extension=extension), CHUNKED), _SERVED, or_refused=True
        )
    for name, extension in {
        "large": ";a=" + "x" * 100_000,
        "bare-cr": ";a\rb",
        "bare-lf": ";a\nb",
        "nul": ";a\0b",
        "terminated-by-lf": ";a\n0\n",
    }.items():
        yield Case(f"chunk-extension-{name}", chat(chunked(said, extension=extension), CHUNKED), refused=True)
    for name, bad in {
        "overflow-64": b"1" + b"0" * 16,
        "overflow-wraps": b"f" * 15 + b"e0" + size,
        "very-long": b"0" * 1_000 + size,
        "prefix-0x": b"0x" + size,
        "plus": b"+" + size,
        "minus": b"-1",
        "space-before": b" " + size,
        "space-behind": size + b" ",
        "tab-behind": size + b"\t",
        "underscore": size[:1] + b"_" + size[1:],
        "empty": b"",
        "no-hex": b"zz",
        "comma": size + b",",
        "unicode-digit": "１".encode(),  # noqa: RUF001
        "bare-cr": size + b"\r",
    }.items():
        yield Case(f"chunk-size-{name}", chat(bad + good[len(size) :], CHUNKED), refused=True)
    yield Case("chunk-size-ended-by-lf", chat(size + b"\n" + said + b"\r\n0\r\n\r\n", CHUNKED), refused=True)
    yield Case("chunk-ended-by-lf", chat(size + b"\r\n" + said + b"\n0\r\n\r\n", CHUNKED), refused=True)
    yield Case("chunk-ended-by-letters", chat(size + b"\r\n" + said + b"XX0\r\n\r\n", CHUNKED), refused=True)
    yield Case("chunk-longer-than-said", chat(size + b"\r\n" + said + b"!\r\n0\r\n\r\n", CHUNKED), refused=True)
    yield Case("chunk-last-ended-by-lf", chat(size + b"\r\n" + said + b"\r\n0\n\r\n", CHUNKED), refused=True)
    yield Case("trailers-ended-by-lf", chat(size + b"\r\n" + said + b"\r\n0\r\n\n", CHUNKED), refused=True)
    yield Case(
        "chunk-without-end", chat(size + b"\r\n" + said + b"\r\n", CHUNKED), refused=True
    )  # the probe is no chunk
    yield Case("length-and-no-body", chat(b"", sized(b""), "X-Other: 1"), (Reply(statuses=frozenset({400, 422})),))
