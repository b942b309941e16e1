"""Upgrade: the gateway stays with HTTP/1.1, and a body stays a body."""

from collections.abc import Iterator

from tests.attacks.corpus.build import CHUNKED, HIDDEN, chat, chunked, get, head, hidden, prompt, request_id, sized
from tests.attacks.corpus.case import Case, Reply

OFFERS = {
    "h2c": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
    "websocket": (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ),
    "unknown": ("Connection: upgrade", "Upgrade: made-up/7"),
    "mixed-case": ("cOnNeCtIoN: UpGrAdE", "uPgRaDe: H2C"),
    "keep-alive": ("Connection: keep-alive, Upgrade", "Upgrade: h2c"),
    "two-connections": ("Connection: keep-alive", "Connection: Upgrade", "Upgrade: h2c"),
    "list": ("Connection: Upgrade", "Upgrade: websocket, h2c, TLS/1.2"),
    "no-connection": ("Upgrade: h2c",),
    "tls": ("Connection: Upgrade", "Upgrade: TLS/1.0"),
    "empty": ("Connection: Upgrade", "Upgrade:"),
}
_SERVED = (Reply(),)


def cases() -> Iterator[Case]:
    """Return each form of the offer, with each framing of a body, with and without a key."""
    for name, offer in OFFERS.items():
        yield Case(f"upgrade-{name}-get", get("/livez", *offer), _SERVED)
        body = hidden()
        line = "POST /livez HTTP/1.1"
        yield Case(
            f"upgrade-{name}-keyless-length",
            head(line, request_id(), *offer, sized(body)) + body,
            (Reply(statuses=frozenset({405})),),
            or_refused=True,
            ends=None,
        )
        yield Case(
            f"upgrade-{name}-keyless-chunked",
            head(line, request_id(), *offer, CHUNKED) + chunked(body),
            (Reply(statuses=frozenset({405})),),
            or_refused=True,
            ends=None,
        )
        yield Case(
            f"upgrade-{name}-get-with-body",
            get("/livez", *offer, sized(body)) + body,
            _SERVED,
            or_refused=True,
            ends=None,
        )
        for kind, hide in HIDDEN.items():
            harmful = hide()
            yield Case(
                f"upgrade-{name}-keyless-{kind}",
                get("/livez", *offer, sized(harmful)) + harmful,
                _SERVED,
                or_refused=True,
                ends=None,
            )
        said = prompt()
        yield Case(f"upgrade-{name}-chat-length", chat(said, *offer, sized(said)), (Reply(echo=True),))
        yield Case(
            f"upgrade-{name}-chat-chunked", chat(chunked(said[:9], said[9:]), *offer, CHUNKED), (Reply(echo=True),)
        )
    yield Case(
        "upgrade-in-trailers",
        chat(chunked(prompt(), trailers=("Connection: Upgrade", "Upgrade: h2c")), CHUNKED),
        (Reply(echo=True),),
    )
    yield Case("http2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), refused=True)
    yield Case(
        "http2-preface-behind-upgrade",
        get("/livez", *OFFERS["h2c"]) + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        _SERVED,
        refused=True,
    )
    yield Case(
        "websocket-frames-behind-upgrade",
        get("/livez", *OFFERS["websocket"]) + bytes([0x81, 0x85, 1, 2, 3, 4, 5, 6, 7, 8, 9]) + b"\r\n\r\n",
        _SERVED,
        refused=True,
    )
