"""Several requests on one connection: pipelining, early responses, Expect, HTTP/1.0 and HEAD."""

from collections.abc import Iterator

from tests.attacks.corpus.build import (
    CHAT_LINE,
    CHUNKED,
    JSON,
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

EXPECT = "Expect: 100-continue"
_PROBES = ("/livez", "/healthz", "/readyz")


def cases() -> Iterator[Case]:
    """Return sequences in which each request must get its own response."""
    yield from _pipelined()
    yield from _garbage()
    yield from _early()
    yield from _expect()
    yield from _http_1_0()
    for path in _PROBES:
        line = f"HEAD {path} HTTP/1.1"
        yield Case(f"head-{path}", head(line, request_id()), (Reply(),), methods=("HEAD",))


def _pipelined() -> Iterator[Case]:
    names = "12345678"
    yield Case("pipelined-probes", b"".join(get(name=name) for name in names), [Reply(name) for name in names])
    chats = b"".join(chat(prompt(name), sized(prompt(name)), name=name) for name in names)
    yield Case("pipelined-chats", chats, [Reply(name, echo=True) for name in names])
    mixed = chat(chunked(prompt("1")), CHUNKED) + get(name="2") + chat(prompt("3"), sized(prompt("3")), name="3")
    yield Case("pipelined-mixed", mixed, (Reply("1", echo=True), Reply("2"), Reply("3", echo=True)))
    paths = ("/livez", "/nowhere", "/livez")
    data = b"".join(get(path, name=name) for path, name in zip(paths, "123", strict=True))
    yield Case("pipelined-with-404", data, (Reply("1"), Reply("2", frozenset({404})), Reply("3")))
    closing = get("/livez", "Connection: close", name="1") + get(name="2")
    yield Case("pipelined-behind-close", closing, (Reply("1"),), ends=True)
    closing = get("/livez", "cOnNeCtIoN: keep-alive, ClOsE", name="1") + get(name="2")
    yield Case("pipelined-behind-close-in-list", closing, (Reply("1"),), ends=True)


def _garbage() -> Iterator[Case]:
    said = prompt()
    for name, behind in {
        "letters": b"garbage\r\n\r\n",
        "nul": b"\0\0\0\0\r\n\r\n",
        "http-2.0": b"GET / HTTP/2.0\r\n\r\n",
        "no-host": b"GET /livez HTTP/1.1\r\n\r\n",
        "both-framings": get("/livez", "Content-Length: 1", CHUNKED, name="inner"),
    }.items():
        request = chat(said, sized(said))
        yield Case(f"garbage-{name}-behind-chat", request + behind, (Reply(echo=True),), refused=True)
        yield Case(f"garbage-{name}-behind-probe", get() + behind, (Reply(),), refused=True)
    body = prompt()
    # By its framing what follows the body is the next request: it gets its own response, with its own id.
    short = chat(body + get(name="2"), sized(body))
    yield Case("request-behind-a-body", short, (Reply(echo=True), Reply("2")))


def _early() -> Iterator[Case]:
    body = hidden() * 50
    unauthorized = (Reply(statuses=frozenset({401})),)
    for name, framed in {
        "length": head(CHAT_LINE, request_id(), JSON, sized(body)) + body,
        "chunked": head(CHAT_LINE, request_id(), JSON, CHUNKED) + chunked(body),
    }.items():
        yield Case(f"early-401-{name}", framed, unauthorized, ends=None)
    large = hidden() * 20_000
    yield Case("early-401-large", head(CHAT_LINE, request_id(), JSON, sized(large)) + large, unauthorized, ends=None)
    missing = head("POST /nowhere HTTP/1.1", request_id(), sized(body)) + body
    yield Case("early-404-length", missing, (Reply(statuses=frozenset({404})),), or_refused=True, ends=None)
    wrong = head(f"DELETE {CHAT} HTTP/1.1", request_id(), CHUNKED) + chunked(body)
    yield Case("early-405-chunked", wrong, (Reply(statuses=frozenset({405})),), or_refused=True, ends=None)


def _expect() -> Iterator[Case]:
    said = prompt()
    # The body comes with the head: RFC 9110 lets the server leave out the 100, so both are right; two are not.
    served = (Reply(echo=True, may_continue=True),)
    yield Case("expect-body-at-once", chat(said, sized(said), EXPECT), served)
    yield Case("expect-chunked", chat(chunked(said), CHUNKED, EXPECT), served)
    yield Case("expect-mixed-case", chat(said, sized(said), "eXpEcT: 100-CONTINUE"), served)
    yield Case("expect-empty", chat(said, sized(said), "Expect:"), served, or_refused=True)
    yield Case("expect-on-get", get("/livez", EXPECT), (Reply(),))
    unauthorized = head(CHAT_LINE, request_id(), JSON, sized(said), EXPECT) + said
    yield Case("expect-unauthorized", unauthorized, (Reply(statuses=frozenset({401})),), ends=None)
    for name, value in {"other": "200-ok", "list": "100-continue, other", "number": "100"}.items():
        yield Case(
            f"expect-{name}",
            chat(said, sized(said), f"Expect: {value}"),
            refused=True,
            refusals=frozenset({400, 417}),
        )


def _http_1_0() -> Iterator[Case]:
    said = prompt()
    line = f"POST {CHAT} HTTP/1.0"
    yield Case("http-1.0-get", head("GET /livez HTTP/1.0", request_id()), (Reply(),), ends=True)
    yield Case("http-1.0-no-host", head("GET /livez HTTP/1.0", request_id(), host=None), (Reply(),), ends=True)
    yield Case("http-1.0-chat", chat(said, sized(said), line=line), (Reply(echo=True),), ends=True)
    stream = said[:-1] + b', "stream": true}'
    yield Case("http-1.0-stream", chat(stream, sized(stream), line=line), (Reply(),), ends=True)
    yield Case("http-1.0-pipelined", head("GET /livez HTTP/1.0", request_id()) + get(name="2"), (Reply(),), ends=True)
    yield Case("http-1.0-host-twice", head("GET /livez HTTP/1.0", request_id(), "Host: other"), refused=True)
    expecting = chat(said, sized(said), EXPECT, line=line)
    yield Case("http-1.0-expect", expecting, (Reply(echo=True),), ends=True)
