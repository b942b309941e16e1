"""The models that are served now: each public name with its routes and its upstream."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from platform_app.config.model_names import WILDCARD, ModelNames
from platform_app.config.reading.values import did_you_mean
from platform_app.credential_forms import holds_credential
from platform_app.errors import InvalidRequest, ModelNotFound
from platform_app.llm.errors import mask_keys, stored_elsewhere
from platform_app.llm.interfaces import Upstream
from platform_app.llm.models.route import Route
from platform_app.llm.models.stored_state import StoredRoute
from platform_app.llm.providers.openai.request_fields import UNTYPED
from platform_app.llm.usage.counts import TokenUsage

DEFAULT_OUTPUT_TOKENS = 1024
_SEARCH = "tools.web_search"
"""The hosted tool that Codex declares unless its configuration says otherwise."""
_UNTYPED = f"tools.{UNTYPED}"
MAX_SHOWN = 128
"""The characters of an unknown model's name in its error."""
MAX_COMPARED = 256
"""The models that are compared with an unknown name. Each takes some microseconds."""
MAX_CONCRETE = 1024
"""Concrete models of wildcards that are kept. They are built again when they are requested later."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A public model, its routes and its upstream."""

    name: str
    """The name in the config file; that of the wildcard if a wildcard matched the requested name."""
    routes: tuple[Route, ...]
    upstream: Upstream
    """Sends a call: all routes with their policies."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What /v1/models shows besides the name (metadata.py)."""
    aliases: tuple[str, ...] = ()
    requested: str | None = None
    """The requested name, if a wildcard matched it."""
    make_concrete: "Callable[[str], ServedModel] | None" = field(default=None, repr=False)
    """Only of a wildcard: builds the model of a requested name that it matches."""
    stored: Mapping[tuple[str, str], StoredRoute] = field(default_factory=dict)
    """By provider and upstream model: the routes whose providers store responses for clients."""
    unpriced: str | None = field(init=False, default=None)
    """The routes without a known price, as text for people; None if all prices are known."""

    def __post_init__(self) -> None:
        unknown = [f"{route.provider}/{route.upstream_model}" for route in self.routes if route.price is None]
        object.__setattr__(self, "unpriced", ", ".join(unknown) or None)

    @property
    def shown_name(self) -> str:
        """The name that clients see."""
        return self.requested or self.name

    def is_allowed(self, allowed: Set[str] | None) -> bool:
        """Return whether a key with these allowed models may use the model: by its name, an alias, or the concrete name
        that a wildcard matched. None allows every model."""
        if allowed is None or self.name in allowed:
            return True
        return self.requested in allowed or any(alias in allowed for alias in self.aliases)

    def require_fields(self, names: Sequence[str]) -> None:
        """Check the extra fields of a request against every route, since any of them may serve it.

        Raises:
            InvalidRequest: one of the providers must not get a field; the error names the first one.
        """
        for name in names:
            if self.refuses(name):
                shown = mask_keys(name[:512])[:128]
                raise InvalidRequest(
                    f"{shown}: is not allowed for the model '{self.shown_name}': {_why_refused(name)}, or ask your "
                    "platform operator to allow it (allow_fields).",
                    param=shown,
                )

    def refuses(self, field: str) -> bool:
        """Return whether one of the providers must not get this extra field."""
        return any(route.refuses(field) for route in self.routes)

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
        self,
        models: Mapping[str, ServedModel],
        default: str,
        default_output_tokens: int = DEFAULT_OUTPUT_TOKENS,
    ) -> None:
        self.replace(models, default, default_output_tokens)

    def replace(self, models: Mapping[str, ServedModel], default: str, default_output_tokens: int) -> None:
        """Serve these models from now on. Running requests keep the model that they began with."""
        self._models = dict(models)
        self._names = ModelNames({name: model.aliases for name, model in models.items()})
        plain = [model for model in models.values() if WILDCARD not in model.name]
        self._exact = {alias: model for model in plain for alias in model.aliases}
        self._exact |= {model.name: model for model in plain}
        self._concrete: OrderedDict[str, ServedModel] = OrderedDict()
        self._default = default
        self.default_output_tokens = default_output_tokens
        """The output tokens that limits reserve for a request that does not set max_tokens."""

    def find(self, name: str | None, allowed: Set[str] | None = frozenset()) -> ServedModel:
        """Return the model of this public name, which may be an alias or match a wildcard; the default model for None.

        Raises:
            ModelNotFound: the error names the model, how to list the models, and a similar name that a key with these
                `allowed` models may use.
        """
        wanted = name or self._default
        model = self._exact.get(wanted)
        if model is not None:
            return model
        if (model := self._matched(wanted)) is None:
            raise self.unknown(wanted, allowed)
        return model

    def unknown(self, name: str, allowed: Set[str] | None) -> ModelNotFound:
        """Return the error for a model that does not exist, or that a key with these allowed models may not use."""
        similar = None
        if allowed is None or allowed:
            models = self.visible(allowed)[:MAX_COMPARED]
            names = (each for model in models for each in (model.shown_name, *model.aliases))
            similar = did_you_mean(name[:MAX_SHOWN], names)
        shown = mask_keys(name[:512])[:MAX_SHOWN]
        advice = f"; did you mean '{similar}'?" if similar else "."
        return ModelNotFound(
            f"Model '{shown}' does not exist{advice} GET /v1/models lists the models that this key may use."
        )

    @property
    def models(self) -> list[ServedModel]:
        """All models, ordered by name; wildcards by their pattern."""
        return [self._models[name] for name in sorted(self._models)]

    def visible(self, allowed: Set[str] | None) -> list[ServedModel]:
        """Return the models that a key with these allowed models can request, ordered by name. Of a wildcard these are
        the concrete names that the key lists: nothing else says which names the provider serves."""
        found = [model for model in self._models.values() if WILDCARD not in model.name and model.is_allowed(allowed)]
        concrete = (name for name in allowed or () if name not in self._exact and WILDCARD not in name)
        found += [model for name in concrete if (model := self._matched(name)) is not None]
        return sorted(found, key=lambda model: model.shown_name)

    def _matched(self, wanted: str) -> ServedModel | None:
        """Return the model of a name that a wildcard matches; None if none does. A name that holds a key matches none:
        it would be sent to the provider and recorded."""
        model = self._concrete.get(wanted)
        if model is not None:
            self._concrete.move_to_end(wanted)
            return model
        pattern = self._names.model_of(wanted)
        make = None if pattern is None or wanted == pattern else self._models[pattern].make_concrete
        if make is None or holds_credential(wanted.encode()):
            return None
        model = self._concrete[wanted] = make(wanted)
        if len(self._concrete) > MAX_CONCRETE:
            self._concrete.popitem(last=False)
        return model


def _why_refused(field: str) -> str:
    """Return why an extra field is refused, and what a client does about it."""
    if not field.startswith("tools."):
        return "it could choose another model, provider, address or price than was checked. Leave it out"
    if field == _UNTYPED:
        return 'a tool needs a type, which is "function" for one that the client runs. Add it'
    codex = ' (in Codex\'s config.toml: web_search = "disabled")' if field == _SEARCH else ""
    return f"it runs at the provider, which costs more than tokens. Leave it out of the tools{codex}"
