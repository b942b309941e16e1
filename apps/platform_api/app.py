"""FastAPI with the gateway's own layers around its router, and none of those that it does not need."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp

from apps.platform_api.direct_routes import DirectRoutes
from apps.platform_api.routes import chat, openai_compat

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

    def build_middleware_stack(self) -> ASGIApp:
        """See Starlette, which calls it with the first request."""
        routed = ExceptionMiddleware(AsyncExitStackMiddleware(self.router), handlers=self.exception_handlers)
        return self._envelope(DirectRoutes(routed, _DIRECT))
