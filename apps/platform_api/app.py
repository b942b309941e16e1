"""FastAPI with the gateway's own layers around its router, and none of those that it does not need."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from apps.platform_api.chat import routes as chat
from apps.platform_api.http.direct_routes import DirectRoutes
from apps.platform_api.openai import routes as openai_compat
from apps.platform_api.openai.azure_paths import serve_azure_path

_DIRECT = [
    route
    for router in (chat.router, openai_compat.router)
    for route in router.routes
    if isinstance(route, APIRoute) and "POST" in (route.methods or ())
]
"""Every route that calls a model."""


class GatewayApp(FastAPI):
    """From the outside in: the envelope, the direct routes, and for all others FastAPI's error handlers and router.

    The envelope is what answers a bug with a 500 and caps bodies; Starlette's layers for that would only come first.
    """

    def __init__(self, envelope: Callable[[ASGIApp], ASGIApp], **options: Any) -> None:
        super().__init__(**options)
        self._envelope = envelope

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An HTTP request goes straight to the stack: what FastAPI would do first is its own telemetry, and spans are
        ours to make."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        if self.middleware_stack is None:
            self.middleware_stack = self.build_middleware_stack()
        scope["app"] = self
        await self.middleware_stack(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """See Starlette, which calls it with the first request."""
        routed = ExceptionMiddleware(AsyncExitStackMiddleware(self.router), handlers=self.exception_handlers)
        return self._envelope(DirectRoutes(routed, _DIRECT, serve_azure_path))
