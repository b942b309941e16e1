"""Build the served models from the config file: routes, adapters, credentials and policies."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import chain

from platform_app.config import PlatformConfig, RouteConfig, Settings
from platform_app.config.model_names import WILDCARD, matched_part
from platform_app.llm.http.response import ProviderLimits
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.http.transport.tls import TlsContexts
from platform_app.llm.interfaces import Credentials, ModelAdapter
from platform_app.llm.models.metadata import model_metadata
from platform_app.llm.models.provider_route import ProviderRoute
from platform_app.llm.models.registry import ServedModel
from platform_app.llm.models.route import Route
from platform_app.llm.models.stored_state import StoredResponses, StoredRoute
from platform_app.llm.policies.chain import build_policy_chain, build_policy_chains
from platform_app.llm.policies.state import PolicyState
from platform_app.llm.providers.anthropic.capabilities import capabilities_of
from platform_app.llm.providers.factory import make_adapter
from platform_app.llm.usage.pricing import configured_price, listed_price
from platform_app.observability.metrics.zeros import start_route_at_zero


class ModelBuilder:
    """Builds the models of a ModelRegistry, at startup and after each change of the config file."""

    def __init__(self, pool: ConnectionPool, settings: Settings, credentials: Credentials) -> None:
        self._pool = pool
        self._settings = settings
        self._credentials = credentials
        self._state = PolicyState()  # breakers and queues survive a change of the config file

    def build(self, config: PlatformConfig) -> Mapping[str, ServedModel]:
        """Return every model of the config file by its public name."""
        limits = ProviderLimits(
            connect_timeout_seconds=self._settings.provider_connect_timeout_seconds,
            idle_timeout_seconds=self._settings.provider_idle_timeout_seconds,
            max_response_bytes=self._settings.provider_max_response_bytes,
        )
        adapters = {name: make_adapter(provider, self._pool, limits) for name, provider in config.providers.items()}
        routes = routes_by_model(config)
        for route in chain.from_iterable(routes.values()):
            start_route_at_zero(route.provider, route.public_model)

        def make_route(route: Route) -> ProviderRoute:
            return ProviderRoute(route, adapters[route.provider], self._credentials)

        upstreams = build_policy_chains(config, routes, make_route, self._state)
        base_urls = {name: provider.base_url for name, provider in config.providers.items()}

        def served(name: str, requested: str | None = None) -> ServedModel:
            model, found, upstream = config.models[name], routes[name], upstreams[name]
            if requested is not None:
                found = concrete_routes(name, requested, config)
                upstream = build_policy_chain(name, config, found, make_route, self._state)
            metadata = model_metadata(requested or name, model, found, base_urls)
            if model.aliases and requested is None:
                metadata = {**metadata, "aliases": list(model.aliases)}
            make = partial(served, name) if requested is None and WILDCARD in name else None
            stored = self._stored(found, adapters, config)
            return ServedModel(name, found, upstream, metadata, model.aliases, requested, make, stored)

        return {name: served(name) for name in upstreams}

    def _stored(
        self, routes: Sequence[Route], adapters: Mapping[str, ModelAdapter], config: PlatformConfig
    ) -> dict[tuple[str, str], StoredRoute]:
        """Return the routes with stored responses."""
        made = {}
        for route in routes:
            adapter = adapters[route.provider]
            if route.stores_responses and isinstance(adapter, StoredResponses):
                limit = self._state.concurrency_limit(route.provider, config)
                made[route.provider, route.upstream_model] = StoredRoute(route, adapter, self._credentials, limit)
        return made


@asynccontextmanager
async def provider_connections(settings: Settings) -> AsyncIterator[ConnectionPool]:
    """Open the connection pool that all providers share, and close it at the end."""
    pool = ConnectionPool(
        settings.provider_max_connections, tls=TlsContexts(settings.ca_bundle), egress=settings.egress
    )
    try:
        yield pool
    finally:
        await pool.aclose()


def routes_by_model(config: PlatformConfig) -> dict[str, tuple[Route, ...]]:
    """Return the routes of each public model, in the config file's order."""
    return {name: tuple(_route(name, route, config) for route in model.routes) for name, model in config.models.items()}


def concrete_routes(wildcard: str, requested: str, config: PlatformConfig) -> tuple[Route, ...]:
    """Return the routes of a requested name that a wildcard matches, each with its price. They keep the wildcard's name
    and the template of their upstream model: metrics, breakers and limits use these."""
    part = matched_part(wildcard, requested) or ""
    return tuple(
        replace(
            _route(wildcard, route.model_copy(update={"model": route.model.replace(WILDCARD, part)}), config),
            template=route.model,
        )
        for route in config.models[wildcard].routes
    )


def _route(public_model: str, route: RouteConfig, config: PlatformConfig) -> Route:
    provider = config.providers[route.provider]
    first_token = route.first_token_seconds
    if first_token is None:
        first_token = config.policies.first_token_seconds
    return Route(
        public_model=public_model,
        provider=route.provider,
        upstream_model=route.model,
        secret_name=provider.api_key_secret,
        weight=route.weight,
        timeout_seconds=route.timeout_seconds,
        first_token_seconds=first_token,
        allow_fields=frozenset(provider.allow_fields),
        only_known_fields=provider.only_known_fields,
        stores_responses=provider.stores_responses,
        capabilities=(
            capabilities_of(route.model, route.capabilities) if provider.wire_format == "anthropic" else None
        ),
        counts_tokens=provider.wire_format == "anthropic",
        price=configured_price(route.price) if route.price else listed_price(route.model, provider.base_url),
    )
