"""Request lines and headers that are not strictly RFC 9112."""

from collections.abc import Iterator

from tests.attacks.corpus.build import chat, get, head, prompt, request_id, sized
from tests.attacks.corpus.case import Case, Reply

_LINES = {
    "http-0.9": "GET /livez",
    "http-2.0": "GET /livez HTTP/2.0",
    "http-3.0": "GET /livez HTTP/3.0",
    "http-1.2": "GET /livez HTTP/1.2",
    "http-0.9-named": "GET /livez HTTP/0.9",
    "http-1": "GET /livez HTTP/1",
    "http-1.10": "GET /livez HTTP/1.10",
    "http-01.1": "GET /livez HTTP/01.1",
    "http-lower-case": "GET /livez http/1.1",
    "http-words": "GET /livez ICY/1.1",
    "version-missing": "GET /livez ",
    "version-space": "GET /livez HTTP /1.1",
    "version-behind-space": "GET /livez HTTP/1.1 ",
    "version-behind-word": "GET /livez HTTP/1.1 more",
    "two-spaces": "GET  /livez HTTP/1.1",
    "two-spaces-behind": "GET /livez  HTTP/1.1",
    "tab": "GET\t/livez\tHTTP/1.1",
    "vertical-tab": "GET\x0b/livez\x0bHTTP/1.1",
    "leading-space": " GET /livez HTTP/1.1",
    "no-method": "/livez HTTP/1.1",
    "method-of-two-words": "GET IT /livez HTTP/1.1",
    "method-with-bracket": "GE(T /livez HTTP/1.1",
    "method-with-nul": "G\0ET /livez HTTP/1.1",
    "method-with-colon": "GET: /livez HTTP/1.1",
    "method-not-ascii": "G\xc9T /livez HTTP/1.1",
    "method-very-long": "G" * 5_000 + " /livez HTTP/1.1",
    "target-with-space": "GET /li vez HTTP/1.1",
    "target-with-nul": "GET /livez\0 HTTP/1.1",
    "target-with-del": "GET /livez\x7f HTTP/1.1",
    "target-not-ascii": "GET /livez\xff HTTP/1.1",
    "target-with-control": "GET /livez\x01 HTTP/1.1",
    "target-with-cr": "GET /li\rvez HTTP/1.1",
    "target-with-fragment": "GET /livez#part HTTP/1.1",
    "target-empty": "GET  HTTP/1.1",
    "tls-hello": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "ssh": "SSH-2.0-OpenSSH_9.2",
    "response": "HTTP/1.1 200 OK",
}
_HEADERS = {
    "bare-cr-in-value": "X-Other: a\rb",
    "bare-cr-at-end": "X-Other: a\r",
    "bare-cr-in-name": "X-Oth\rer: a",
    "bare-lf-ends-a-header": "X-Other: a\nX-More: b",
    "bare-lf-in-name": "X-Oth\ner: a",
    "cr-cr-lf": "X-Other: a\r\r\nX-More: b",
    "fold-space": "X-Other: a\r\n b",
    "fold-tab": "X-Other: a\r\n\tb",
    "fold-empty": "X-Other: a\r\n ",
    "space-before-colon": "X-Other : a",
    "tab-before-colon": "X-Other\t: a",
    "space-in-name": "X Other: a",
    "leading-space": " X-Other: a",
    "no-colon": "X-Other",
    "no-name": ": a",
    "only-colon": ":",
    "nul-in-value": "X-Other: a\0b",
    "nul-in-name": "X-Ot\0her: a",
    "control-in-value": "X-Other: a\x01b",
    "escape-in-value": "X-Other: a\x1b[31mb",
    "backspace-in-value": "X-Other: a\x08b",
    "del-in-value": "X-Other: a\x7fb",
    "vertical-tab-in-value": "X-Other: a\x0bb",
    "form-feed-in-value": "X-Other: a\x0cb",
    "control-in-name": "X-Ot\x01her: a",
    "not-ascii-in-name": "X-\xd6ther: a",
    "bracket-in-name": "X-(Other): a",
    "quote-in-name": '"X-Other": a',
    "slash-in-name": "X/Other: a",
    "at-in-name": "X@Other: a",
}
_HOSTS = {
    "missing": (),
    "twice": ("Host: gateway", "Host: gateway"),
    "twice-different": ("Host: gateway", "Host: elsewhere"),
    "list": ("Host: gateway, elsewhere",),
    "space": ("Host: gate way",),
    "path": ("Host: gateway/livez",),
    "query": ("Host: gateway?x",),
    "fragment": ("Host: gateway#x",),
    "user": ("Host: me@gateway",),
    "port-letters": ("Host: gateway:http",),
    "port-negative": ("Host: gateway:-1",),
    "port-twice": ("Host: gateway:80:80",),
    "bracket-open": ("Host: [::1",),
    "bracket-letters": ("Host: [gateway]",),
    "bracket-dot": ("Host: [.]",),
    "bracket-number": ("Host: [1]",),
    "bracket-ipv4": ("Host: [127.0.0.1]",),
    "bracket-five-digits": ("Host: [fffff::1]",),
    "percent": ("Host: gateway%",),
    "percent-letters": ("Host: gate%zzway",),
    "port-too-large": ("Host: gateway:65536",),
    "backslash": ("Host: gate\\way",),
    "not-ascii": ("Host: g\xe4teway",),
    "quote": ('Host: "gateway"',),
    "angle": ("Host: <gateway>",),
    "space-before-colon": ("Host : gateway",),
}


def cases() -> Iterator[Case]:
    """Return every line that a strict reader refuses, and the odd ones that it takes."""
    for name, line in _LINES.items():
        yield Case(f"line-{name}", head(line, request_id()), refused=True)
    for name, header in _HEADERS.items():
        yield Case(f"header-{name}", get("/livez", header), refused=True)
        said = prompt()
        yield Case(f"header-{name}-first", chat(said, header, sized(said)), refused=True)
    for name, hosts in _HOSTS.items():
        yield Case(f"host-{name}", get("/livez", *hosts, host=None), refused=True)
    for host in ("gateway", "GATEWAY:8100", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:8100", "a-b.c_d.example."):
        yield Case(f"host-good-{host}", get(host=host), (Reply(),))
    yield from _line_ends()
    yield from _sizes()


def _line_ends() -> Iterator[Case]:
    plain = get()
    yield Case("all-lines-ended-by-lf", plain.replace(b"\r\n", b"\n"), refused=True)
    yield Case("all-lines-ended-by-cr", plain.replace(b"\r\n", b"\r"), refused=True)
    yield Case("request-line-ended-by-lf", plain.replace(b"\r\n", b"\n", 1), refused=True)
    yield Case("head-ended-by-lf", plain[:-2] + b"\n", refused=True)
    yield Case("head-ended-by-lf-lf", plain[:-4] + b"\n\n", refused=True)
    yield Case("head-ended-by-cr-lf-cr", plain[:-1] + b"X", refused=True)
    yield Case("first-header-folded", b"GET /livez HTTP/1.1\r\n Host: gateway\r\n\r\n", refused=True)
    yield Case("empty-line-first", b"\r\n" + plain, (Reply(),), or_refused=True)
    yield Case("empty-lines-first", b"\r\n" * 5_000 + plain, refused=True)
    yield Case("lf-first", b"\n" + plain, refused=True)
    yield Case("request-behind-space", b" " + plain, refused=True)
    yield Case("request-behind-nul", b"\0" + plain, refused=True)
    yield Case("only-nuls", bytes(5_000), refused=True)
    yield Case("byte-order-mark", b"\xef\xbb\xbf" + plain, refused=True)


def _sizes() -> Iterator[Case]:
    too_large = frozenset({400, 414, 431})
    for name, headers in {
        "one-large": ["X-Padding: " + "x" * 40_000],
        "one-of-a-megabyte": ["X-Padding: " + "x" * 1_000_000],
        "many": [f"X-{number}: y" for number in range(200)],
        "many-small": ["a:"] * 5_000,
        "large-name": ["x" * 40_000 + ": y"],
    }.items():
        yield Case(f"head-{name}", get("/livez", *headers), refused=True, refusals=too_large)
    yield Case("head-large-target", get("/livez?" + "x" * 40_000), refused=True, refusals=too_large)
    yield Case("head-just-fits", get("/livez", *(f"X-{number}: " + "y" * 300 for number in range(60))), (Reply(),))
    yield Case("obs-text-in-value", get("/livez", "X-Other: caf\xe9"), (Reply(),), or_refused=True)
    yield Case("empty-value", get("/livez", "X-Other:"), (Reply(),))
    yield Case("tab-in-value", get("/livez", "X-Other: a\tb"), (Reply(),))
