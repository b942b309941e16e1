"""Default-deny for routes: one that lacks auth, scope or limit keeps the whole service from starting."""

from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from apps.platform_api.dependencies import Guard, LimitedBy

PUBLIC = frozenset(
    {("GET", "/healthz"), ("GET", "/livez"), ("GET", "/readyz"), ("GET", "/v1/meta"), ("GET", "/openapi.json")}
)
"""The only routes without a guard. They read, say nothing secret, and are listed here by hand."""

ANY_KEY = frozenset({("GET", "/v1/platform/limits"), ("GET", "/v1/platform/usage")})
"""The only guarded routes without a scope: what a key may always read about itself. Who may read more of the usage is
decided in routes/usage.py."""


class UnguardedRouteError(Exception):
    """A route that anybody could call without being asked who they are."""


def require_guards(app: FastAPI) -> None:
    """Look at every route of the app, also at those that are no FastAPI handlers.

    Raises:
        UnguardedRouteError: naming every route that has no guard and is not public.
    """
    unguarded = []
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        guard = guard_of(route) if isinstance(route, APIRoute) else None
        if guard is not None and guard.scope is not None and guard.limited_by is not LimitedBy.NOTHING_CHARGED:
            continue
        open_to_any = PUBLIC if guard is None else ANY_KEY
        path, methods = getattr(route, "path", repr(route)), getattr(route, "methods", None) or {"*"}
        unguarded += [f"{method} {path}" for method in sorted(methods - {"HEAD"}) if (method, path) not in open_to_any]
    if unguarded:
        raise UnguardedRouteError(
            f"these routes have no Guard (auth, scope and limit): {', '.join(unguarded)}; "
            "give the handler a caller parameter from dependencies.py"
        )


def api_routes(app: FastAPI) -> Iterator[APIRoute]:
    """Every route with a FastAPI handler."""
    for context in iter_route_contexts(app.routes):
        if isinstance(context.original_route, APIRoute):
            yield context.original_route


def guard_of(route: APIRoute) -> Guard | None:
    """The guard that a route's parameters name, at any depth."""
    return next((call for call in _calls(route.dependant) if isinstance(call, Guard)), None)


def _calls(dependant: Dependant) -> Iterator[object]:
    yield dependant.call
    for inner in dependant.dependencies:
        yield from _calls(inner)
