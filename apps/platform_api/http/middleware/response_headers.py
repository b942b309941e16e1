"""Render what the core noted about a request as response headers.

The core speaks no HTTP: it notes the limiter's decision, the route that was called and the attempts in the
RequestContext. The middleware adds these headers to every response head: to an error's, and to a stream's that is
sent before the first event.
"""

from collections.abc import Sequence

from apps.platform_api.limits.headers import rate_limit_headers
from platform_app.observability.context import RequestContext

Headers = Sequence[tuple[bytes, bytes]]


def response_headers(context: RequestContext) -> list[tuple[bytes, bytes]]:
    """Return the headers for everything noted so far."""
    headers: list[tuple[bytes, bytes]] = []
    if (decision := context.limits) is not None:
        limits = rate_limit_headers(decision.states, decision.denied_by)
        headers.extend((name.encode(), value.encode()) for name, value in limits.items())
    if context.upstream_model is not None:
        headers.extend(provider_headers(context))
    if context.idempotency_unavailable:
        headers.append((b"idempotency-unavailable", b"true"))
    return headers


def provider_headers(context: RequestContext) -> Headers:
    """Return the headers that name the called provider, its model and the number of attempts; empty before a call."""
    if context.provider is None or context.upstream_model is None:
        return ()
    return (
        (b"x-platform-provider", context.provider.encode()),
        (b"x-platform-model", context.upstream_model.encode()),
        (b"x-platform-attempts", b"%d" % context.attempts),
    )
