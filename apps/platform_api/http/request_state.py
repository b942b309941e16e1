"""Read what the lifespan and the middleware put into a request's scope. No other module knows these names."""

import time
from collections.abc import Callable

from fastapi import Request
from starlette.types import Scope, Send

from apps.platform_api.http.body.json_text import TextFacts
from apps.platform_api.http.body.request_body import BoundedRequestBody
from apps.platform_api.http.idempotency.detached_work import DetachedWork
from apps.platform_api.server.state import ServerState
from platform_app.observability.context import RequestContext
from platform_app.observability.record import OK, RECEIVE
from platform_app.resources import Resources


def context_of(request: Request) -> RequestContext:
    """Return the record of this request, which the middleware opened."""
    context: RequestContext = request.scope["state"]["context"]
    return context


def resources_of(request: Request) -> Resources:
    """Return what the lifespan opened."""
    resources: Resources = request.scope["state"]["resources"]
    return resources


def server_state_of(request: Request) -> ServerState:
    """Return the state of this process: draining or not, and its requests in flight."""
    state: ServerState = request.scope["state"]["server"]
    return state


def send_timeout_of(scope: Scope, default: float) -> float:
    """Return the seconds that a stream's client may read nothing: PLATFORM_WRITE_TIMEOUT_SECONDS, but not less than
    `default`, because the server itself ends a connection whose socket takes nothing, and counts it."""
    resources: Resources | None = scope.get("state", {}).get("resources")
    return default if resources is None else max(default, resources.settings.write_timeout_seconds)


def detached_work_of(request: Request) -> DetachedWork:
    """Return what runs work that may outlive its client."""
    detached: DetachedWork = request.scope["state"]["detached"]
    return detached


def send_of(request: Request) -> Send:
    """Return ASGI's `send` of this request, for a stream whose head is sent before the handler returns."""
    send: Send = request.scope["state"]["send"]
    return send


async def body_of(request: Request) -> bytes:
    """Return the whole body, also at a second call. The middleware bounds it and counts it for the caller's key."""
    state = request.scope.get("state", {})
    body: BoundedRequestBody | None = state.get("body")
    if body is None:  # without the middleware, as in unit tests
        return await request.body()
    context: RequestContext = state["context"]
    began = time.perf_counter()
    raw = await body.read(context.key_id)
    context.record.hops.append((RECEIVE, began, time.perf_counter(), OK))
    return raw


def body_facts_of(request: Request) -> TextFacts | None:
    """Return the counts that were made while a large body arrived; None for a small body."""
    body: BoundedRequestBody | None = request.scope.get("state", {}).get("body")
    return body.facts if body is not None else None


def keep_body_of(request: Request) -> Callable[[], Callable[[], None]]:
    """Return BoundedRequestBody.keep of this request's body."""
    body: BoundedRequestBody | None = request.scope.get("state", {}).get("body")
    return body.keep if body is not None else lambda: lambda: None


def route_template(scope: Scope) -> str:
    """Return the path template of the matched route, for labels and rules; never the path that the client sent."""
    route = scope.get("route")
    # `path_format` leaves converters out: /v1/models/{model}.
    return getattr(route, "path_format", None) or "unmatched"
