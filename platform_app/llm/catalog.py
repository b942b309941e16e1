"""The public models and how each is served."""

from dataclasses import dataclass

from platform_app.config import PlatformConfig
from platform_app.errors import ModelNotFound


@dataclass(frozen=True, slots=True)
class Route:
    """One way to serve a model."""

    public_model: str
    provider: str
    upstream_model: str
    secret_name: str


class Catalog:
    """Read-only; a changed config file makes a new one."""

    def __init__(self, config: PlatformConfig, default_model: str) -> None:
        self._default = default_model
        self._routes = {
            name: tuple(
                Route(name, route.provider, route.model, config.providers[route.provider].api_key_secret)
                for route in model.routes
            )
            for name, model in config.models.items()
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
