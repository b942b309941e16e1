"""The public models of the config file and how each is served."""

from platform_app.config import PlatformConfig, RouteConfig
from platform_app.llm.models.route import Route
from platform_app.llm.providers.anthropic.models import capabilities_of
from platform_app.llm.usage.pricing import configured_price, listed_price


def catalog_routes(config: PlatformConfig) -> dict[str, tuple[Route, ...]]:
    """By public model its routes, in the file's order."""
    return {name: tuple(_route(name, route, config) for route in model.routes) for name, model in config.models.items()}


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
        capabilities=(
            capabilities_of(route.model, route.capabilities) if provider.wire_format == "anthropic" else None
        ),
        price=configured_price(route.price) if route.price else listed_price(route.model, provider.base_url),
    )
