"""The HTTP service: its composition on one page.

A request passes, from the outside in: the middleware, the model routes, and for every other request FastAPI's error
handlers and router.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypedDict

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.telemetry import TelemetryConfig
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from apps.platform_api.audit import routes as audit
from apps.platform_api.chat import routes as chat
from apps.platform_api.http.body.request_body import BodyBudget, BodyLimits
from apps.platform_api.http.errors import install_error_handlers
from apps.platform_api.http.idempotency.detached_work import DetachedWork
from apps.platform_api.http.middleware.access_log import AccessLog
from apps.platform_api.http.middleware.cors import CorsPolicy
from apps.platform_api.http.middleware.request import RequestLimits, RequestMiddleware
from apps.platform_api.http.model.route import ModelRoutes
from apps.platform_api.keys import routes as keys
from apps.platform_api.limits import routes as limits
from apps.platform_api.messages import routes as messages
from apps.platform_api.openai import routes as openai
from apps.platform_api.openai.azure_paths import serve_azure_path
from apps.platform_api.openapi.install import DESCRIPTION, install_openapi
from apps.platform_api.responses import routes as responses
from apps.platform_api.security.route_check import require_guards
from apps.platform_api.server.state import ServerState
from apps.platform_api.system import routes as system
from apps.platform_api.usage import routes as usage
from apps.platform_api.version import SERVICE, VERSION
from platform_app.config import Settings, parse_networks, parse_origins
from platform_app.errors import ConfigurationError
from platform_app.observability import metrics
from platform_app.observability.tracing.request_tracing import request_tracing
from platform_app.resources import Resources, open_resources

_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""The exporter's process sends the traces (docs/adr/0033), whatever FastAPI's own variables say."""
MODEL_ROUTES = (*chat.ROUTES, *openai.MODEL_ROUTES, *responses.MODEL_ROUTES, *messages.MODEL_ROUTES)


class State(TypedDict):
    """What the lifespan adds to the state of every request; http/request_state.py reads it."""

    resources: Resources
    server: ServerState
    detached: DetachedWork


def create_app(settings: Settings, server: ServerState | None = None) -> FastAPI:
    """Return the app, which opens its resources when its lifespan starts.

    Raises:
        UnguardedRouteError: a route lacks authentication, scope or rate limit.
    """
    server = server or ServerState()
    detached = DetachedWork(server, settings.max_concurrent_requests)
    access_log = AccessLog(settings.refusals_per_address_per_minute)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        metrics.BUILD_INFO.labels(VERSION, settings.build_sha or "unknown").set(1)
        started = False
        try:
            async with open_resources(settings, server.seconds_left) as resources:
                server.reload_config = resources.reload.request
                started = True
                yield {"resources": resources, "server": server, "detached": detached}
                await detached.aclose(settings.shutdown_grace_seconds)
        except ConfigurationError as error:
            server.configuration_problems = error.problems
            raise
        except Exception as error:
            server.start_error = None if started else error
            raise
        finally:
            access_log.flush()

    app = GatewayApp(title=SERVICE, version=VERSION, description=DESCRIPTION, lifespan=lifespan)
    # The routes are added directly: FastAPI matches included routers through a layer that costs 5 % of a chat request.
    app.router.routes.extend(MODEL_ROUTES)
    for area in (openai, responses, keys, audit, usage, limits, system):
        app.router.routes.extend(area.router.routes)
    install_error_handlers(app)
    install_openapi(app)
    require_guards(app)
    routed = ExceptionMiddleware(AsyncExitStackMiddleware(app.router), handlers=app.exception_handlers)
    served = ModelRoutes(routed, MODEL_ROUTES, serve_azure_path)
    app.stack = RequestMiddleware(served, server, _request_limits(settings), access_log, request_tracing(settings))
    return app


class GatewayApp(FastAPI):
    """FastAPI with its own middleware replaced by `stack`."""

    stack: ASGIApp

    def __init__(self, **options: Any) -> None:
        super().__init__(docs_url=None, redoc_url=None, redirect_slashes=False, telemetry=_NO_TELEMETRY, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. FastAPI serves the lifespan; its layers around a request are telemetry and error pages,
        which the middleware replaces."""
        if scope["type"] == "http":
            scope["app"] = self
            await self.stack(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def _request_limits(settings: Settings) -> RequestLimits:
    return RequestLimits(
        BodyLimits(
            settings.max_body_bytes, settings.body_timeout_seconds, settings.max_json_values, settings.min_data_rate
        ),
        BodyBudget(settings.max_body_bytes_in_flight, settings.max_body_bytes_in_flight_per_key),
        settings.max_concurrent_requests,
        parse_networks(settings.trusted_proxies),
        CorsPolicy(origins) if (origins := parse_origins(settings.cors_origins)) else None,
    )
