"""Content-Length and Transfer-Encoding: one way to read a body, or none."""

from collections.abc import Iterator

from tests.attacks.corpus.build import (
    CHAT_LINE,
    CHUNKED,
    HIDDEN,
    JSON,
    KEY,
    chat,
    chunked,
    get,
    head,
    hidden,
    prompt,
    request_id,
    sized,
)
from tests.attacks.corpus.case import CHAT, Case, Reply

_SERVED = (Reply(echo=True),)
_ENCODINGS = {
    "gzip-chunked": "gzip, chunked",
    "chunked-gzip": "chunked, gzip",
    "gzip": "gzip",
    "identity": "identity",
    "identity-chunked": "identity, chunked",
    "chunked-identity": "chunked, identity",
    "twice-in-list": "chunked, chunked",
    "comma": "chunked,",
    "leading-comma": ",chunked",
    "parameter": "chunked;q=1",
    "quoted": '"chunked"',
    "prefix": "xchunked",
    "suffix": "chunkedx",
    "space-inside": "chun ked",
    "vertical-tab": "\x0bchunked",
    "form-feed": "chunked\x0c",
    "nul": "chunked\0",
    "no-break-space": "\xa0chunked",
    "empty": "",
    "zero": "0",
    "cow": "cow",
}
_LENGTHS = {
    "plus": "+{}",
    "minus": "-{}",
    "minus-zero": "-0",
    "hex": "0x{}",
    "float": "{}.0",
    "exponent": "{}e0",
    "underscore": "1_0",
    "space-inside": "1 0",
    "letters": "ten",
    "empty": "",
    "list": "{}, {}",
    "list-different": "{}, 0",
    "comma": "{},",
    "quoted": '"{}"',
    "semicolon": "{};",
    "vertical-tab": "\x0b{}",
    "no-break-space": "{}\xa0",
    "nul": "{}\0",
    "superscript": "\xb2",
    "overflow-64": "18446744073709551616",
    "overflow-wraps": "18446744073709551621",
    "very-long": "1" * 400,
    "huge-zeros": "0" * 5_000 + "{}",
}


def cases() -> Iterator[Case]:
    """Return every pair of lengths and encodings that two readers could read differently."""
    yield from _pairs()
    yield from _encodings()
    yield from _lengths()


def _pairs() -> Iterator[Case]:
    said, body = prompt(), hidden()
    yield Case("chunked-mixed-case", chat(chunked(said), "tRaNsFeR-eNcOdInG: ChUnKeD"), _SERVED)
    for name, length in {"zero": 0, "short": 5, "exact": len(chunked(said)), "long": 5_000}.items():
        headers = (f"Content-Length: {length}", CHUNKED)
        yield Case(f"both-length-{name}-first", chat(chunked(said), *headers), refused=True)
        yield Case(f"both-encoding-first-{name}", chat(chunked(said), *reversed(headers)), refused=True)
    yield Case("cl-te", chat(b"0\r\n\r\n" + body, f"Content-Length: {5 + len(body)}", CHUNKED), refused=True)
    te_cl = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    yield Case("te-cl", chat(te_cl, CHUNKED, "Content-Length: 4"), refused=True)
    for kind, hide in HIDDEN.items():
        harmful = b"0\r\n\r\n" + hide()
        yield Case(f"cl-te-{kind}", get("/livez", sized(harmful), CHUNKED) + harmful, refused=True)
        size = f"{len(hide()):x}\r\n".encode()
        te_cl = size + hide() + b"\r\n0\r\n\r\n"
        yield Case(f"te-cl-{kind}", get("/livez", CHUNKED, f"Content-Length: {len(size)}") + te_cl, refused=True)
    yield Case("cl-te-keyless", get("/livez", "Content-Length: 4", CHUNKED) + chunked(body), refused=True)
    yield Case(
        "both-in-http-1.0", chat(chunked(said), sized(said), CHUNKED, line=f"POST {CHAT} HTTP/1.0"), refused=True
    )
    yield Case("chunked-in-http-1.0", chat(chunked(said), CHUNKED, line=f"POST {CHAT} HTTP/1.0"), refused=True)
    yield Case("no-framing", chat(b""), (Reply(statuses=frozenset({400, 411, 422})),))


def _encodings() -> Iterator[Case]:
    said = prompt()
    for name, value in _ENCODINGS.items():
        yield Case(f"encoding-{name}", chat(chunked(said), f"Transfer-Encoding: {value}"), refused=True)
    for name, header in {
        "space-before-colon": "Transfer-Encoding : chunked",
        "tab-before-colon": "Transfer-Encoding\t: chunked",
        "leading-space": " Transfer-Encoding: chunked",
        "folded": "Transfer-Encoding:\r\n chunked",
        "folded-behind-other": "X-Other: a\r\n Transfer-Encoding: chunked",
        "ended-by-lf": "X-Other: a\nTransfer-Encoding: chunked",
        "ended-by-cr": "X-Other: a\rTransfer-Encoding: chunked",
        "nul-in-name": "Transfer-Encoding\0: chunked",
        "no-colon": "Transfer-Encoding chunked",
        "semicolon-in-name": "Transfer-Encoding;: chunked",
    }.items():
        yield Case(f"encoding-{name}", chat(chunked(said), header), refused=True)
        yield Case(f"encoding-{name}-and-length", chat(said, sized(said), header), refused=True)
    yield Case("encoding-twice", chat(chunked(said), CHUNKED, CHUNKED), refused=True)
    yield Case("encoding-twice-different", chat(chunked(said), CHUNKED, "Transfer-Encoding: identity"), refused=True)
    yield Case("encoding-twice-different-first", chat(chunked(said), "Transfer-Encoding: cow", CHUNKED), refused=True)
    underscore = chat(said, sized(said), "Transfer_Encoding: chunked")
    yield Case("encoding-underscore", underscore, _SERVED, or_refused=True)
    yield Case("tabs-around-chunked", chat(chunked(said), "Transfer-Encoding:\t chunked \t"), _SERVED, or_refused=True)


def _lengths() -> Iterator[Case]:
    said, body = prompt(), hidden()
    for name, value in _LENGTHS.items():
        yield Case(f"length-{name}", chat(said, "Content-Length: " + value.format(len(said), len(said))), refused=True)
    yield Case("length-leading-zeros", chat(said, f"Content-Length: 000{len(said)}"), _SERVED, or_refused=True)
    yield Case("length-twice-equal", chat(said, sized(said), sized(said)), refused=True)
    yield Case("length-twice-different", chat(said, sized(said), "Content-Length: 0"), refused=True)
    yield Case("length-twice-first-zero", chat(body, "Content-Length: 0", sized(body)), refused=True)
    for name, header in {
        "space-before-colon": f"Content-Length : {len(said)}",
        "folded": f"Content-Length:\r\n {len(said)}",
        "leading-space": f" Content-Length: {len(said)}",
    }.items():
        yield Case(f"length-{name}", chat(said, header), refused=True)
    declared = head(CHAT_LINE, request_id(), KEY, JSON, "Content-Length: 99999999999")
    yield Case("length-beyond-the-cap", declared, (Reply(statuses=frozenset({413})),), ends=None)
    yield Case("get-with-body", get("/livez", sized(body)) + body, (Reply(),), or_refused=True, ends=None)
    yield Case("get-with-chunked-body", get("/livez", CHUNKED) + chunked(body), (Reply(),), or_refused=True, ends=None)
