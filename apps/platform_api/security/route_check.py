"""Refuse to start with a route that lacks authentication, scope or rate limit."""

from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import BaseRoute

from apps.platform_api.http.model.route import ModelRoute
from apps.platform_api.security.guard import Guard, LimitedBy

PUBLIC = frozenset(
    {("GET", "/healthz"), ("GET", "/livez"), ("GET", "/readyz"), ("GET", "/v1/meta"), ("GET", "/openapi.json")}
)
"""The only routes without a guard. They read, return nothing secret, and are listed here by hand."""

ANY_KEY = frozenset({("GET", "/v1/platform/limits"), ("GET", "/v1/platform/usage")})
"""The only guarded routes without a scope: every key may read its own limits and usage. usage/routes.py checks who may
read more of the usage."""


class UnguardedRouteError(Exception):
    """A route can be called without authentication, scope or rate limit."""


def require_guards(app: FastAPI) -> None:
    """Check every route of the app, also those that are neither model routes nor FastAPI handlers.

    Raises:
        UnguardedRouteError: names every route that has no guard and is not public.
    """
    unguarded = []
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        guard = guard_of(route)
        if guard is not None and guard.scope is not None and guard.limited_by is not LimitedBy.NOTHING_CHARGED:
            continue
        allowed = PUBLIC if guard is None else ANY_KEY
        path, methods = getattr(route, "path", repr(route)), getattr(route, "methods", None) or {"*"}
        unguarded += [f"{method} {path}" for method in sorted(methods - {"HEAD"}) if (method, path) not in allowed]
    if unguarded:
        raise UnguardedRouteError(
            f"these routes have no Guard (auth, scope and limit): {', '.join(unguarded)}; "
            "give the handler a caller parameter from dependencies.py, or make it a ModelRoute"
        )


def api_routes(app: FastAPI) -> Iterator[APIRoute | ModelRoute]:
    """Yield every route with a handler: FastAPI's and the model routes."""
    for context in iter_route_contexts(app.routes):
        if isinstance(context.original_route, APIRoute | ModelRoute):
            yield context.original_route


def guard_of(route: BaseRoute) -> Guard | None:
    """Return the guard of a model route, or the one that a FastAPI handler's parameters name at any depth."""
    match route:
        case ModelRoute():
            return route.guard
        case APIRoute():
            return next((call for call in _calls(route.dependant) if isinstance(call, Guard)), None)
        case _:
            return None


def _calls(dependant: Dependant) -> Iterator[object]:
    yield dependant.call
    for inner in dependant.dependencies:
        yield from _calls(inner)
