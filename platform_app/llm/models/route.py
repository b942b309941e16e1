"""One way to serve a model."""

from dataclasses import dataclass

from platform_app.llm.providers.anthropic.capabilities import ModelCapabilities
from platform_app.llm.providers.openai.request_fields import steers
from platform_app.llm.usage.pricing import Price


@dataclass(frozen=True, slots=True)
class Route:
    """Which provider serves a public model, under which name, and what it takes for that."""

    public_model: str
    provider: str
    upstream_model: str
    secret_name: str | None = None
    """None: the provider asks for no credential."""
    weight: int | None = None
    """Its share of the traffic among routes with a weight; without one it is only a fallback (but the first route of
    a model where none has a weight)."""
    timeout_seconds: float | None = None
    """For one attempt; None: what is left of the request's deadline."""
    first_token_seconds: float | None = None
    """From sending a request for a stream until its first content; None: as long as the other limits allow."""
    allow_fields: frozenset[str] = frozenset()
    """Fields of requests that may pass although they steer, or are not OpenAI's; as the catalog says."""
    only_known_fields: bool = False
    """Fields that are not OpenAI's are refused unless they are allowed."""
    capabilities: ModelCapabilities | None = None
    """What the model takes; None where the wire format is OpenAI's, and the provider judges that itself."""
    price: Price | None = None
    """None: nobody knows what its tokens cost."""

    def refuses(self, field: str) -> bool:
        """Whether this field of `request_fields.extra_fields` must not reach the provider."""
        return field not in self.allow_fields and (self.only_known_fields or steers(field))
