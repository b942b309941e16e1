"""What tokens cost: the config file's word, else the library `genai-prices`'."""

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from genai_prices import Usage, calc_price
from genai_prices.types import ModelPrice, PriceCalculation

from platform_app.config import PriceConfig
from platform_app.llm.usage import TokenUsage

MICRO_USD = 1_000_000


class Price(Protocol):
    """The price of one model at one provider."""

    def microusd(self, usage: TokenUsage) -> int:
        """What these tokens cost, in millionths of a dollar, rounded up: a budget is never undercounted."""
        ...


@dataclass(frozen=True, slots=True)
class FlatPrice:
    """The same for every token. US dollars per million tokens, which is millionths of a dollar per token."""

    input: float
    output: float
    cached_input: float
    """Of prompt tokens that the provider had in its cache."""

    def microusd(self, usage: TokenUsage) -> int:
        """See Price.microusd."""
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        cost = (usage.prompt_tokens - cached) * self.input + cached * self.cached_input
        # Floats are exact to 1e-9 of these sums; without the small step back 0.15 × 20 would round up to 4.
        return math.ceil(cost + usage.completion_tokens * self.output - 1e-6)


@dataclass(frozen=True, slots=True)
class TieredPrice:
    """A price that depends on how many tokens there are; the library works it out, in a fifth of a millisecond."""

    model: ModelPrice

    def microusd(self, usage: TokenUsage) -> int:
        """See Price.microusd."""
        counted = Usage(
            input_tokens=usage.prompt_tokens,
            cache_read_tokens=min(usage.cached_tokens, usage.prompt_tokens),
            output_tokens=usage.completion_tokens,
        )
        return math.ceil(self.model.calc_price(counted)["total_price"] * MICRO_USD)


def configured_price(config: PriceConfig) -> Price:
    """The price that the config file states."""
    cached = config.cached_input_usd_per_million
    return FlatPrice(
        float(config.input_usd_per_million),
        float(config.output_usd_per_million),
        float(config.input_usd_per_million if cached is None else cached),
    )


def listed_price(model: str, base_url: str) -> Price | None:
    """The library's price for a provider's model, found by the provider's address; None where it knows none."""
    try:
        found: PriceCalculation = calc_price(Usage(input_tokens=1, output_tokens=1), model, provider_api_url=base_url)
    except LookupError:
        return None
    price = found.model_price
    rates = (price.input_mtok, price.output_mtok, price.cache_read_mtok)
    if any(rate is not None and not isinstance(rate, Decimal) for rate in rates):
        return TieredPrice(price)
    given, made, cached = (float(rate) if isinstance(rate, Decimal) else None for rate in rates)
    return FlatPrice(given or 0.0, made or 0.0, given or 0.0 if cached is None else cached)
