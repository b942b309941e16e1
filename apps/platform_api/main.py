"""The HTTP service, put together on one page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TypedDict

from fastapi import FastAPI

from apps.platform_api.app import GatewayApp
from apps.platform_api.audit import routes as audit
from apps.platform_api.chat import routes as chat
from apps.platform_api.http.access_log import AccessLog
from apps.platform_api.http.body.budget import BodyBudget
from apps.platform_api.http.body.request_body import BodyLimits
from apps.platform_api.http.cors import CorsPolicy
from apps.platform_api.http.errors import install_error_handlers
from apps.platform_api.http.idempotency.detached_work import DetachedWork
from apps.platform_api.http.middleware import RequestLimits, RequestMiddleware
from apps.platform_api.keys import routes as keys
from apps.platform_api.limits import routes as limits
from apps.platform_api.openai import routes as openai_compat
from apps.platform_api.openapi.install import DESCRIPTION, install_openapi
from apps.platform_api.security.route_check import require_guards
from apps.platform_api.server.state import ServerState
from apps.platform_api.system import routes as system
from apps.platform_api.usage import routes as usage
from apps.platform_api.version import SERVICE, VERSION
from platform_app.config import Settings, load_settings, parse_networks, parse_origins
from platform_app.errors import ConfigurationError
from platform_app.observability import metrics
from platform_app.observability.logging import configure_logging
from platform_app.resources import Resources, open_resources


class State(TypedDict):
    """What the lifespan hands to every request."""

    resources: Resources
    server: ServerState
    detached: DetachedWork


def create_app(settings: Settings, server: ServerState | None = None) -> FastAPI:
    """The app, which opens its resources when its lifespan starts.

    Raises:
        UnguardedRouteError: a route lacks auth, scope or limit.
    """
    server = server or ServerState()
    detached = DetachedWork(server, settings.max_concurrent_requests)
    access_log = AccessLog(settings.refusals_per_address_per_minute)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        metrics.BUILD_INFO.labels(VERSION, settings.build_sha or "unknown").set(1)
        try:
            async with open_resources(settings) as resources:
                server.reload_config = resources.reload.request
                yield {"resources": resources, "server": server, "detached": detached}
                await detached.aclose(settings.shutdown_grace_seconds)
        except ConfigurationError as error:
            server.configuration_problems = error.problems
            raise
        finally:
            access_log.flush()

    caps = RequestLimits(
        BodyLimits(
            settings.max_body_bytes, settings.body_timeout_seconds, settings.max_json_values, settings.min_data_rate
        ),
        BodyBudget(settings.max_body_bytes_in_flight, settings.max_body_bytes_in_flight_per_key),
        settings.max_concurrent_requests,
        parse_networks(settings.trusted_proxies),
        CorsPolicy(origins) if (origins := parse_origins(settings.cors_origins)) else None,
    )
    app = GatewayApp(
        partial(RequestMiddleware, state=server, caps=caps, access_log=access_log),
        title=SERVICE, version=VERSION, description=DESCRIPTION, lifespan=lifespan, docs_url=None, redoc_url=None,
        redirect_slashes=False,
    )  # fmt: skip
    # Taken over as they are: included routers are matched through a layer that costs 5 % of a chat request.
    for area in (chat, openai_compat, keys, audit, usage, limits, system):
        app.router.routes.extend(area.router.routes)
    install_error_handlers(app)
    install_openapi(app)
    require_guards(app)
    return app


def create_app_from_environment() -> FastAPI:
    """For ASGI servers other than `flowbiz-platform serve`: `uvicorn --factory apps.platform_api.main:…`."""
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    return create_app(settings)
