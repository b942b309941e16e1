"""Targets: only a plain path reaches a route."""

from collections.abc import Iterator

from tests.attacks.corpus.build import JSON, KEY, get, head, prompt, request_id, sized
from tests.attacks.corpus.case import Case, Reply

_MISSING = frozenset({400, 404})
_PATHS = {
    "slash": "/v1%2fplatform%2fchat",
    "slash-upper-case": "/v1%2Fplatform/chat",
    "slash-livez": "/%2flivez",
    "slash-behind": "/livez%2f",
    "backslash": "/v1%5cplatform%5cchat",
    "nul": "/livez%00",
    "nul-inside": "/li%00vez",
    "dot": "/./livez",
    "dot-dot": "/v1/../livez",
    "dot-dot-encoded": "/v1/%2e%2e/livez",
    "dot-encoded": "/%2e/livez",
    "dot-dot-half-encoded": "/v1/.%2e/livez",
    "dot-dot-behind": "/livez/..",
    "dot-dot-encoded-slash": "/v1/..%2flivez",
    "double-slash": "//livez",
    "double-encoded": "/v1%252fplatform%252fchat",
    "broken-percent": "/livez%",
    "broken-percent-one": "/livez%2",
    "broken-percent-letters": "/livez%zz",
    "encoded-line": "/livez%0d%0aX-Injected:%20yes",
    "encoded-space": "/livez%20",
    "not-utf-8": "/livez%ff",
    "overlong-slash": "/v1%c0%afplatform",
    "semicolon": "/livez;x=1",
}


def cases() -> Iterator[Case]:
    """Return targets in forms that proxies and servers read differently."""
    said = prompt()
    for name, path in _PATHS.items():
        yield Case(f"path-{name}", get(path), (Reply(statuses=_MISSING),), or_refused=True)
    encoded = head("POST /v1%2fplatform%2fchat HTTP/1.1", request_id(), KEY, JSON, sized(said)) + said
    yield Case("path-slash-with-key", encoded, (Reply(statuses=_MISSING),), or_refused=True)
    for name, target in {
        "http": "http://gateway/livez",
        "port": "http://gateway:8100/livez",
        "upper-case": "HTTP://gateway/livez",
        "query": "http://gateway/livez?a=b",
    }.items():
        yield Case(f"absolute-{name}", head(f"GET {target} HTTP/1.1", request_id()), (Reply(),), or_refused=True)
    for name, target in {
        "other-host": "http://elsewhere/livez",
        "no-path": "http://gateway",
    }.items():
        yield Case(
            f"absolute-{name}",
            head(f"GET {target} HTTP/1.1", request_id()),
            (Reply(statuses=frozenset({200, 400, 404, 421})),),
            or_refused=True,
        )
    for name, target in {
        "user": "http://me@gateway/livez",
        "no-host": "http:///livez",
        "no-authority": "http:/livez",
        "bad-port": "http://gateway:x/livez",
        "space": "http:// gateway/livez",
        "file": "file:///etc/passwd",
        "gopher": "gopher://gateway/livez",
        "javascript": "javascript:alert(1)",
        "bracket": "http://[::1/livez",
    }.items():
        yield Case(f"absolute-{name}", head(f"GET {target} HTTP/1.1", request_id()), refused=True)
    for name, target in {
        "no-slash": "livez",
        "dot": ".",
        "star": "*",
        "at": "@gateway/livez",
        "question": "?a=b",
    }.items():
        yield Case(f"target-{name}", head(f"GET {target} HTTP/1.1", request_id()), refused=True)
    yield Case(
        "options-star",
        head("OPTIONS * HTTP/1.1", request_id()),
        (Reply(statuses=frozenset({200, 204, 400, 404, 405})),),
        or_refused=True,
    )
    for target in ("gateway:443", "127.0.0.1:22", "/livez"):
        yield Case(f"connect-{target}", head(f"CONNECT {target} HTTP/1.1", request_id(), host=target), refused=True)
