"""Routes that call a model: a declaration, a guard and a handler, without FastAPI's layers between them.

FastAPI's matching, exit stack and dependency resolution cost more CPU than authentication, limiter and ledger together
(docs/adr/0031). A ModelRoute is a Starlette route instead. It reads its body itself and returns a finished response.
It is in `app.routes`, so the OpenAPI document describes it and `route_check.py` requires its guard.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from apps.platform_api.security.guard import Guard
from platform_app.auth.caller import Caller

Handler = Callable[[Request, Caller], Awaitable[Response]]


class ModelRoute(Route):
    """A POST route that calls a model."""

    def __init__(self, path: str, guard: Guard, handler: Handler, documentation: Mapping[str, Any]) -> None:
        """
        Args:
            path: the exact path, without parameters. The query string has no parameters either.
            guard: returns the caller, before the handler reads the body.
            handler: returns the response; its docstring is the operation's description.
            documentation: the operation in the OpenAPI document, as arguments of APIRoute.
        """
        super().__init__(path, handler, methods=["POST"])
        self.guard = guard
        self._handler = handler
        self._documentation = documentation
        self.app = self.serve

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request. The middleware renders the errors that this raises."""
        scope["route"] = self
        request = Request(scope, receive, send)
        response = await self._handler(request, await self.guard(request))
        await response(scope, receive, send)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See Route.matches. Also note the route, so that a 405 is counted under its template."""
        match, child_scope = super().matches(scope)
        if match is not Match.NONE:
            child_scope["route"] = self
        return match, child_scope

    def documented(self) -> APIRoute:
        """Return a FastAPI route that only describes this one, for the OpenAPI document."""
        description = inspect.cleandoc(self._handler.__doc__ or "")
        return APIRoute(
            self.path, _described_only, methods=["POST"], name=self.name, response_model=None,
            description=description, **self._documentation,
        )  # fmt: skip


class ModelRoutes:
    """Serves the model routes by exact path, ahead of the router, and passes every other request on to `app`."""

    def __init__(
        self, app: ASGIApp, routes: Iterable[ModelRoute], rewrite: Callable[[Scope], bool] = lambda _: False
    ) -> None:
        """
        Args:
            app: serves every other request.
            routes: the model routes.
            rewrite: replaces a path that is an alias of a route's path, and returns whether it did. It is called for
                paths that are not a model route's.
        """
        self._app = app
        self._rewrite = rewrite
        self._routes = {route.path: route for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            route = self._routes.get(scope["path"])
            if route is None and self._rewrite(scope):
                route = self._routes.get(scope["path"])
            if route is not None and scope["method"] == "POST":
                await route.serve(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _described_only() -> None:
    """Stand in for a handler whose parameters FastAPI does not read."""
