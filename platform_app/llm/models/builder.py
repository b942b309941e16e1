"""The way to each model of the catalog, put together: routes, adapters, credentials and policies."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from platform_app.config import PlatformConfig, Settings
from platform_app.llm.http.response import ProviderLimits
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.http.transport.tls import TlsContexts
from platform_app.llm.interfaces import Credentials
from platform_app.llm.models.catalog import catalog_routes
from platform_app.llm.models.facts import facts_of
from platform_app.llm.models.provider_route import ProviderRoute
from platform_app.llm.models.registry import ServedModel
from platform_app.llm.models.route import Route
from platform_app.llm.policies.chain import assemble_all
from platform_app.llm.policies.state import PolicyState
from platform_app.llm.providers.factory import make_adapter


class ModelBuilder:
    """Builds what a ModelRegistry holds, at the start and whenever the config file changes."""

    def __init__(self, pool: ConnectionPool, settings: Settings, credentials: Credentials) -> None:
        self._pool = pool
        self._settings = settings
        self._credentials = credentials
        self._state = PolicyState()  # breakers and queues of routes that stay outlive a change of the config file

    def build(self, config: PlatformConfig) -> Mapping[str, ServedModel]:
        """Every model of the catalog by its public name."""
        limits = ProviderLimits(
            connect_seconds=self._settings.provider_connect_timeout_seconds,
            silence_seconds=self._settings.provider_idle_timeout_seconds,
            max_response_bytes=self._settings.provider_max_response_bytes,
        )
        adapters = {name: make_adapter(provider, self._pool, limits) for name, provider in config.providers.items()}
        routes = catalog_routes(config)

        def make_route(route: Route) -> ProviderRoute:
            return ProviderRoute(route, adapters[route.provider], self._credentials)

        upstreams = assemble_all(config, routes, make_route, self._state)
        base_urls = {name: provider.base_url for name, provider in config.providers.items()}
        return {
            name: ServedModel(
                name, routes[name], upstream, facts_of(name, config.models[name], routes[name], base_urls)
            )
            for name, upstream in upstreams.items()
        }


@asynccontextmanager
async def provider_connections(settings: Settings) -> AsyncIterator[ConnectionPool]:
    """One pool of connections for all providers."""
    pool = ConnectionPool(
        settings.provider_max_connections, tls=TlsContexts(settings.ca_bundle), egress=settings.egress
    )
    try:
        yield pool
    finally:
        await pool.aclose()
