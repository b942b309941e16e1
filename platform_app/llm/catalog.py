"""The public models and how each is served."""

from platform_app.config import PlatformConfig, RouteConfig
from platform_app.errors import ModelNotFound
from platform_app.llm.prices import configured_price, listed_price
from platform_app.llm.route import Route


class Catalog:
    """Read-only; a changed config file makes a new one."""

    def __init__(self, config: PlatformConfig, default_model: str) -> None:
        self._default = default_model
        self._routes = {
            name: tuple(_route(name, route, config) for route in model.routes) for name, model in config.models.items()
        }

    def routes(self, model: str | None) -> tuple[Route, ...]:
        """The routes of a public model, best first; of the default model for None.

        Raises:
            ModelNotFound: naming the model and where to see which there are.
        """
        name = model or self._default
        routes = self._routes.get(name)
        if routes is None:
            raise ModelNotFound(f"There is no model '{name[:128]}' here. Ask your operator which models are served.")
        return routes

    @property
    def models(self) -> list[str]:
        """All public names, sorted."""
        return sorted(self._routes)


def _route(public_model: str, route: RouteConfig, config: PlatformConfig) -> Route:
    provider = config.providers[route.provider]
    return Route(
        public_model=public_model,
        provider=route.provider,
        upstream_model=route.model,
        secret_name=provider.api_key_secret,
        weight=route.weight,
        timeout_seconds=route.timeout_seconds,
        price=configured_price(route.price) if route.price else listed_price(route.model, provider.base_url),
    )
