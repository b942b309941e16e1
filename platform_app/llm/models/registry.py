"""The models that are served now: each public name with its routes and its upstream."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from platform_app.errors import InvalidRequest, ModelNotFound
from platform_app.llm.errors import mask_keys, stored_elsewhere
from platform_app.llm.interfaces import Upstream
from platform_app.llm.models.route import Route
from platform_app.llm.usage.counts import TokenUsage

DEFAULT_OUTPUT_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A public model, its routes and its upstream."""

    name: str
    routes: tuple[Route, ...]
    upstream: Upstream
    """Sends a call: all routes with their policies."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What /v1/models shows besides the name (metadata.py)."""
    unpriced: str | None = field(init=False, default=None)
    """The routes without a known price, as text for people; None if all prices are known."""

    def __post_init__(self) -> None:
        unknown = [f"{route.provider}/{route.upstream_model}" for route in self.routes if route.price is None]
        object.__setattr__(self, "unpriced", ", ".join(unknown) or None)

    def require_fields(self, names: Sequence[str]) -> None:
        """Check the extra fields of a request against every route, since any of them may serve it.

        Raises:
            InvalidRequest: one of the providers must not get a field; the error names the first one.
        """
        for name in names:
            if any(route.refuses(name) for route in self.routes):
                shown = mask_keys(name[:512])[:128]
                raise InvalidRequest(
                    f"{shown}: is not allowed for the model '{self.name}': it could choose another model, provider, "
                    "address or price than was checked. Leave it out, or ask your platform operator to allow it "
                    "(allow_fields).",
                    param=shown,
                )

    def require_route(self, pinned: tuple[str, str]) -> None:
        """Check that the route of a stored response still serves this model; `pinned`: see ModelRequest.

        Raises:
            InvalidRequest: no route of the model has this provider and upstream model.
        """
        if all((route.provider, route.upstream_model) != pinned for route in self.routes):
            raise stored_elsewhere()

    def most_microusd(self, usage: TokenUsage) -> int:
        """Return the highest cost of these tokens over all routes; 0 if no price is known."""
        return max((route.price.microusd(usage) for route in self.routes if route.price is not None), default=0)


class ModelRegistry:
    """The models by name. Every request reads it; a change of the config file replaces all models at once."""

    def __init__(
        self, models: Mapping[str, ServedModel], default: str, default_output_tokens: int = DEFAULT_OUTPUT_TOKENS
    ) -> None:
        self.replace(models, default, default_output_tokens)

    def replace(self, models: Mapping[str, ServedModel], default: str, default_output_tokens: int) -> None:
        """Serve these models from now on. Running requests keep the model that they began with."""
        self._models = dict(models)
        self._default = default
        self.default_output_tokens = default_output_tokens
        """The output tokens that limits reserve for a request that does not set max_tokens."""

    def find(self, name: str | None) -> ServedModel:
        """Return the model of this public name; the default model for None.

        Raises:
            ModelNotFound: the error names the model and how to list the models.
        """
        wanted = name or self._default
        model = self._models.get(wanted)
        if model is None:
            raise unknown_model(wanted)
        return model

    @property
    def models(self) -> list[ServedModel]:
        """All models, ordered by name."""
        return [self._models[name] for name in sorted(self._models)]


def unknown_model(name: str) -> ModelNotFound:
    """Return the error for a model that does not exist, or that the caller may not use."""
    shown = mask_keys(name[:512])[:128]
    return ModelNotFound(f"Model '{shown}' does not exist. GET /v1/models lists the models that this key may use.")
