"""The routes that call models, without the layers that FastAPI puts between a request and its handler.

They stay FastAPI routes: declared, documented and guarded like every other one. Only their dispatch is ours, since
matching, exit stacks and dependency solving cost more than the limiter, auth and ledger together (docs/adr/0012).
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

Dependency = Callable[[Request], Awaitable[Any]]


class NotDirectError(Exception):
    """A route needs what only FastAPI can do: parameters of its own, or dependencies that are no plain coroutines."""


class DirectRoutes:
    """Answers these routes itself, by exact path and method; everything else goes on to `app`."""

    def __init__(
        self, app: ASGIApp, routes: Iterable[APIRoute], rewrite: Callable[[Scope], bool] = lambda _: False
    ) -> None:
        """`rewrite` is asked about paths that are not among the routes: it changes a path that is another name of a
        route, and says whether it did.

        Raises NotDirectError, naming the route.
        """
        self._app = app
        self._rewrite = rewrite
        self._direct = {(method, route.path): _DirectRoute(route) for route in routes for method in route.methods or ()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Dispatch one request. Errors of ours are left to the envelope, which renders them."""
        if scope["type"] == "http":
            direct = self._direct.get((scope["method"], scope["path"]))
            if direct is None and self._rewrite(scope):
                direct = self._direct.get((scope["method"], scope["path"]))
            if direct is not None:
                await direct(scope, receive, send)
                return
        await self._app(scope, receive, send)


class _DirectRoute:
    """A handler and what it asks for, read once from FastAPI's own analysis of its signature."""

    def __init__(self, route: APIRoute) -> None:
        self._route = route
        self._handler = route.endpoint
        self._request_name = route.dependant.request_param_name
        self._dependencies = [_dependency(route, inner) for inner in route.dependant.dependencies]
        _require_plain(route, route.dependant)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self._route
        request = Request(scope, receive, send)
        values: dict[str, Any] = {self._request_name: request} if self._request_name else {}
        for name, dependency in self._dependencies:  # in the signature's order, as FastAPI does
            values[name] = await dependency(request)
        response = await self._handler(**values)
        await response(scope, receive, send)


def _dependency(route: APIRoute, inner: Dependant) -> tuple[str, Dependency]:
    _require_plain(route, inner)
    if inner.dependencies or inner.call is None or inner.name is None or not inner.request_param_name:
        raise NotDirectError(f"{route.path}: {inner.name} is no coroutine of the request alone")
    return inner.name, inner.call


def _require_plain(route: APIRoute, dependant: Dependant) -> None:
    given = (
        dependant.path_params, dependant.query_params, dependant.header_params, dependant.cookie_params,
        dependant.body_params,
    )  # fmt: skip
    if any(given) or dependant.background_tasks_param_name or dependant.response_param_name:
        raise NotDirectError(f"{route.path}: has parameters that only FastAPI can read")
