"""The price of tokens: from the config file, else from the library `genai-prices`."""

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from genai_prices import Usage, calc_price
from genai_prices.types import ModelPrice, PriceCalculation

from platform_app.config import PriceConfig
from platform_app.llm.usage.counts import TokenUsage

MICRO_USD = 1_000_000


class Price(Protocol):
    """The price of one model at one provider."""

    def microusd(self, usage: TokenUsage) -> int:
        """Return the cost of these tokens in millionths of a dollar, rounded up, so that a budget is never
        undercounted."""
        ...


@dataclass(frozen=True, slots=True)
class FlatPrice:
    """The same price for every token of a kind, in US dollars per million tokens: millionths of a dollar per token."""

    input: float
    output: float
    cached_input: float
    """For prompt tokens that were read from the provider's cache."""
    cache_write: float
    """For prompt tokens that were written to the cache."""
    cache_write_1h: float
    """For prompt tokens that the cache keeps for an hour."""

    def microusd(self, usage: TokenUsage) -> int:
        """See Price.microusd."""
        read, written, hour = _cache_tokens(usage)
        cost = (usage.prompt_tokens - read - written) * self.input + read * self.cached_input
        if written:
            cost += (written - hour) * self.cache_write + hour * self.cache_write_1h
        # Floats are exact to 1e-9 of these sums. Without the subtraction, 100 × 0.07 would round up to 8.
        return math.ceil(cost + usage.completion_tokens * self.output - 1e-6)


@dataclass(frozen=True, slots=True)
class TieredPrice:
    """A price that depends on the number of tokens. The library computes it in a fifth of a millisecond."""

    model: ModelPrice

    def microusd(self, usage: TokenUsage) -> int:
        """See Price.microusd."""
        read, written, hour = _cache_tokens(usage)
        counted = Usage(
            input_tokens=usage.prompt_tokens,
            cache_read_tokens=read,
            cache_write_tokens=written,
            cache_write_1h_tokens=hour,
            output_tokens=usage.completion_tokens,
        )
        return math.ceil(self.model.calc_price(counted)["total_price"] * MICRO_USD)


def configured_price(config: PriceConfig) -> Price:
    """Return the price in the config file."""
    return _flat(
        config.input_usd_per_million, config.output_usd_per_million, config.cached_input_usd_per_million,
        config.cache_write_usd_per_million, config.cache_write_1h_usd_per_million,
    )  # fmt: skip


def listed_price(model: str, base_url: str) -> Price | None:
    """Return the library's price for a provider's model, found by the provider's URL; None if it has none."""
    try:
        found: PriceCalculation = calc_price(Usage(input_tokens=1, output_tokens=1), model, provider_api_url=base_url)
    except LookupError:
        return None
    price = found.model_price
    rates = (
        price.input_mtok, price.output_mtok, price.cache_read_mtok, price.cache_write_mtok, price.cache_write_1h_mtok,
    )  # fmt: skip
    if price.input_mtok is None and price.output_mtok is None:
        return None  # charged by the request, or by something else than tokens
    if any(rate is not None and not isinstance(rate, Decimal) for rate in rates):
        return TieredPrice(price)
    return _flat(*(rate if isinstance(rate, Decimal) else None for rate in rates))


def _flat(
    given: Decimal | None, made: Decimal | None, read: Decimal | None, written: Decimal | None, hour: Decimal | None
) -> FlatPrice:
    """Return the price. A kind of token without its own price costs as much as the more general kind: cached input as
    input, and a write for an hour as any write."""
    given = given or Decimal(0)
    written = given if written is None else written
    return FlatPrice(
        float(given), float(made or 0), float(given if read is None else read), float(written),
        float(written if hour is None else hour),
    )  # fmt: skip


def _cache_tokens(usage: TokenUsage) -> tuple[int, int, int]:
    """Return the tokens read from the cache, written to it, and kept for an hour, each at most as many as the more
    general kind has."""
    read = min(usage.cached_tokens, usage.prompt_tokens)
    written = min(usage.cache_write_tokens, usage.prompt_tokens - read)
    return read, written, min(usage.cache_write_1h_tokens, written)
