"""One way to serve a model."""

from dataclasses import dataclass

from platform_app.llm.prices import Price


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
    price: Price | None = None
    """None: nobody knows what its tokens cost."""
