"""The models that are served now: each public name with its routes and the way to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from platform_app.errors import InvalidRequest, ModelNotFound
from platform_app.llm.errors import mask_keys
from platform_app.llm.interfaces import Upstream
from platform_app.llm.models.route import Route
from platform_app.llm.usage.counts import TokenUsage

DEFAULT_OUTPUT_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A public model."""

    name: str
    routes: tuple[Route, ...]
    upstream: Upstream
    """All its routes with their policies."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What is told of it besides its name: see model_facts.py."""
    unpriced: str | None = field(init=False, default=None)
    """The routes whose price is not known, for people; None where all are known."""

    def __post_init__(self) -> None:
        unknown = [f"{route.provider}/{route.upstream_model}" for route in self.routes if route.price is None]
        object.__setattr__(self, "unpriced", ", ".join(unknown) or None)

    def require_fields(self, names: Sequence[str]) -> None:
        """Check the extra fields of a request against every route, since any of them may serve it.

        Raises:
            InvalidRequest: naming the first that one of the providers must not get.
        """
        for name in names:
            if any(route.refuses(name) for route in self.routes):
                shown = mask_keys(name[:512])[:128]
                raise InvalidRequest(
                    f"{shown}: is not taken for the model '{self.name}': it could choose another model, provider, "
                    "address or price than was checked. Leave it out, or ask your platform operator to allow it "
                    "(allow_fields).",
                    param=shown,
                )

    def most_microusd(self, usage: TokenUsage) -> int:
        """What these tokens cost at most, whichever route answers; 0 where no price is known."""
        return max((route.price.microusd(usage) for route in self.routes if route.price is not None), default=0)


class ModelRegistry:
    """Read by every request; exchanged as a whole when the config file changes."""

    def __init__(
        self, models: Mapping[str, ServedModel], default: str, default_output_tokens: int = DEFAULT_OUTPUT_TOKENS
    ) -> None:
        self.replace(models, default, default_output_tokens)

    def replace(self, models: Mapping[str, ServedModel], default: str, default_output_tokens: int) -> None:
        """Serve these from now on. Requests that are under way end as they began."""
        self._models = dict(models)
        self._default = default
        self.default_output_tokens = default_output_tokens
        """What limits take an answer to need whose request does not say."""

    def find(self, name: str | None) -> ServedModel:
        """The model of this public name; the default one for None.

        Raises:
            ModelNotFound: naming the model and where to see which there are.
        """
        wanted = name or self._default
        model = self._models.get(wanted)
        if model is None:
            raise unknown_model(wanted)
        return model

    @property
    def models(self) -> list[ServedModel]:
        """All of them, by name."""
        return [self._models[name] for name in sorted(self._models)]


def unknown_model(name: str) -> ModelNotFound:
    """The answer for a model that is not there, or not for this caller."""
    shown = mask_keys(name[:512])[:128]
    return ModelNotFound(f"There is no model '{shown}' here. GET /v1/models lists those that this key may use.")
