"""A route: one provider that serves a public model."""

from dataclasses import dataclass

from platform_app.llm.providers.anthropic.capabilities import ModelCapabilities
from platform_app.llm.providers.openai.request_fields import steers
from platform_app.llm.usage.pricing import Price


@dataclass(frozen=True, slots=True)
class Route:
    """The provider of a public model, the model's name there, and the route's settings."""

    public_model: str
    provider: str
    upstream_model: str
    secret_name: str | None = None
    """None if the provider needs no credential."""
    weight: int | None = None
    """The route's share of the traffic among the routes with a weight. A route without a weight is only a fallback. If
    no route of a model has a weight, the first route gets all traffic."""
    timeout_seconds: float | None = None
    """The timeout of one attempt; None: what is left until the request's deadline."""
    first_token_seconds: float | None = None
    """The timeout from a streaming request to its first content; None: only the other timeouts apply."""
    allow_fields: frozenset[str] = frozenset()
    """Request fields that the config file allows although they steer, or are not OpenAI's."""
    only_known_fields: bool = False
    """Whether fields that are not OpenAI's are refused unless they are allowed."""
    stores_responses: bool = False
    """Whether the provider stores responses and the config file lets clients use them."""
    capabilities: ModelCapabilities | None = None
    """What the model supports; None if the wire format is OpenAI's, where the provider decides."""
    counts_tokens: bool = False
    """Whether the provider counts the tokens of a Messages request without a charge."""
    price: Price | None = None
    """None if the price is not known."""
    template: str | None = None
    """The upstream model in the config file, if the model is a wildcard: `*` stands for what the wildcard matched."""

    @property
    def label(self) -> str:
        """The route's upstream model in metrics, breakers and the choice of a route: never a name that a client
        chose."""
        return self.upstream_model if self.template is None else self.template

    def refuses(self, field: str) -> bool:
        """Return whether the provider must not get this field, one of `request_fields.extra_fields`."""
        return field not in self.allow_fields and (self.only_known_fields or steers(field))
