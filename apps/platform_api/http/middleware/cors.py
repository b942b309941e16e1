"""CORS: which origins' pages may call the gateway from a browser. Off unless PLATFORM_CORS_ORIGINS is set.

A page sends the key in a header. The gateway uses no cookies, so credentials are never allowed, and a page can read
nothing that a program with the same key could not.
Source: https://fetch.spec.whatwg.org/#http-cors-protocol.
"""

import re
from collections.abc import Sequence

from starlette.responses import Response
from starlette.types import Scope

Headers = Sequence[tuple[bytes, bytes]]

EXPOSED = (
    "x-request-id", "request-id", "traceparent", "retry-after", "x-should-retry", "ratelimit", "ratelimit-policy",
    "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens", "x-platform-provider",
    "x-platform-model", "x-platform-attempts", "x-platform-token-count",
    "idempotency-replayed", "idempotency-unavailable", "www-authenticate",
)  # fmt: skip
"""Response headers that a page may read, in addition to the safelisted ones."""
METHODS = "GET, POST, PATCH, DELETE"
REQUEST_HEADERS = "authorization, x-api-key, api-key, content-type, idempotency-key, x-request-id, traceparent"
"""The allowed request headers for a preflight that names none."""
MAX_AGE_SECONDS = 600
"""How long a browser may reuse the response to a preflight."""
MAX_REQUESTED_BYTES = 2048
ROUTE = "preflight"
"""The route of preflights in metrics and records."""

_ANY = "*"
_REQUESTED = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:[ \t]*,[ \t]*[!#$%&'*+\-.^_`|~0-9A-Za-z]+)*")
_VARY = (b"vary", b"Origin")


class CorsPolicy:
    """The allowed origins, and the response headers for them."""

    def __init__(self, origins: Sequence[str]) -> None:
        """`origins` as browsers send them, `https://app.example.com`; or `*` alone for all of them."""
        self._any = list(origins) == [_ANY]
        self._origins = frozenset(origin.encode() for origin in origins)
        self._exposed = (b"access-control-expose-headers", ", ".join(EXPOSED).encode())

    def headers(self, scope: Scope) -> Headers:
        """Return the headers of every response to this request, errors included. `Vary` is always among them, because
        the headers differ by origin."""
        allowed = self._allowed(scope)
        return (_VARY,) if allowed is None else (_VARY, allowed, self._exposed)

    def preflight(self, scope: Scope) -> Response | None:
        """Return the response to a preflight from an allowed origin; None for any other request."""
        requested_method, requested = None, b""
        for name, value in scope["headers"]:
            if name == b"access-control-request-method":
                requested_method = value
            elif name == b"access-control-request-headers":
                requested = value
        if requested_method is None or self._allowed(scope) is None:
            return None
        # Client libraries add headers (x-stainless-…). Without credentials every header can be allowed.
        sane = len(requested) <= MAX_REQUESTED_BYTES and _REQUESTED.fullmatch(requested) is not None
        headers = {
            "access-control-allow-methods": METHODS,
            "access-control-allow-headers": requested.decode().lower() if sane else REQUEST_HEADERS,
            "access-control-max-age": str(MAX_AGE_SECONDS),
        }
        return Response(status_code=204, headers=headers)

    def _allowed(self, scope: Scope) -> tuple[bytes, bytes] | None:
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        if len(origins) != 1:
            return None
        if self._any:
            return (b"access-control-allow-origin", b"*")
        return (b"access-control-allow-origin", origins[0]) if origins[0] in self._origins else None
