"""The cost of tokens in millionths of a dollar, always rounded up."""

from decimal import Decimal
from math import ceil

import pytest
from genai_prices import Usage
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_app.config import PriceConfig
from platform_app.llm.usage.counts import TokenUsage, stated_microusd
from platform_app.llm.usage.pricing import FlatPrice, TieredPrice, configured_price, listed_price

OPENAI = "https://api.openai.com/v1"
GOOGLE = "https://generativelanguage.googleapis.com/v1beta/openai"


def usage(prompt: int, completion: int, cached: int = 0) -> TokenUsage:
    return TokenUsage(prompt, completion, prompt + completion, cached)


@pytest.mark.parametrize(
    ("counted", "cost"),
    [
        (usage(0, 0), 0),
        (usage(1, 0), 1),  # 0.15, rounded up
        (usage(20, 0), 3),  # exactly
        (usage(1_000_000, 1_000_000), 750_000),
        (usage(100, 10, 100), 14),  # 7.5 + 6, rounded up
        (usage(100, 10, 500), 14),  # at most as many cached tokens as prompt tokens
        (usage(0, 10, 5), 6),
    ],
)
def test_flat_price_is_computed(counted: TokenUsage, cost: int) -> None:
    assert FlatPrice(0.15, 0.6, 0.075, 0.15, 0.15).microusd(counted) == cost


def test_flat_price_with_float_error_is_exact() -> None:
    """As a float, 100 * 0.07 is 7.000000000000001."""
    assert FlatPrice(0.07, 0, 0, 0, 0).microusd(usage(100, 0)) == 7


_RATES = st.decimals(0, 1000, places=6)


@settings(max_examples=60)
@given(_RATES, _RATES, _RATES, st.integers(0, 10_000_000), st.integers(0, 10_000_000), st.integers(0, 10_000_000))
def test_float_cost_equals_decimal_cost(
    given_rate: Decimal, made: Decimal, cached: Decimal, prompt: int, completion: int, read: int
) -> None:
    config = PriceConfig(
        input_usd_per_million=given_rate, output_usd_per_million=made, cached_input_usd_per_million=cached
    )
    read = min(read, prompt)
    exact = (prompt - read) * given_rate + read * cached + completion * made
    cost = configured_price(config).microusd(usage(prompt, completion, read))
    assert abs(cost - ceil(exact)) <= 1
    assert cost >= exact - Decimal("0.00001")


@pytest.mark.parametrize(
    ("counted", "cost"),
    [
        (TokenUsage(100, 0, 100, 10, 50, 20), 40 * 10 + 10 * 1 + 30 * 12 + 20 * 20),
        (TokenUsage(100, 0, 100, 0, 100, 100), 100 * 20),
        (TokenUsage(100, 0, 100, 0, 100, 900), 100 * 20),  # at most as many as were written at all
        (TokenUsage(100, 0, 100, 90, 900, 0), 90 * 1 + 10 * 12),  # at most as many as the prompt has
    ],
)
def test_cache_write_has_its_price(counted: TokenUsage, cost: int) -> None:
    assert FlatPrice(10, 50, 1, 12, 20).microusd(counted) == cost


def test_listed_price_has_cache_write_rate() -> None:
    """Anthropic's list: 1.25 times other input for five minutes, twice as much for an hour."""
    price = listed_price("claude-haiku-4-5", "https://api.anthropic.com")
    assert price is not None
    plain, written, hour = (
        price.microusd(TokenUsage(1000, 0, 1000, 0, *counts)) for counts in ((0, 0), (1000, 0), (1000, 1000))
    )
    assert (written, hour) == (1.25 * plain, 2 * plain)


def test_tiered_price_has_cache_write_rate() -> None:
    price = listed_price("claude-sonnet-4-5", "https://api.anthropic.com")
    assert isinstance(price, TieredPrice)
    plain, written, hour = (
        price.microusd(TokenUsage(1000, 0, 1000, 0, *counts)) for counts in ((0, 0), (1000, 0), (1000, 1000))
    )
    assert (written, hour) == (1.25 * plain, 2 * plain)


def test_configured_price_without_cache_rate_uses_input() -> None:
    config = PriceConfig(input_usd_per_million=Decimal(2), output_usd_per_million=Decimal(3))
    assert configured_price(config) == FlatPrice(2.0, 3.0, 2.0, 2.0, 2.0)


def test_listed_price_is_found() -> None:
    assert listed_price("gpt-4o-mini", OPENAI) == FlatPrice(0.15, 0.6, 0.075, 0.15, 0.15)


@pytest.mark.parametrize(
    ("model", "url"),
    [
        ("never-heard-of", OPENAI),
        ("gpt-4o-mini", "https://llm.internal.example/v1"),
        ("gpt-4o-mini", "http://10.0.0.1"),
    ],
)
def test_unknown_model_has_no_listed_price(model: str, url: str) -> None:
    assert listed_price(model, url) is None


def test_tiered_price_is_computed() -> None:
    """Beyond 200,000 tokens of input, each of Gemini's tokens costs more."""
    price = listed_price("gemini-2.5-pro", GOOGLE)
    assert isinstance(price, TieredPrice)
    small, large = price.microusd(usage(200_000, 0)), price.microusd(usage(200_001, 0))
    assert large > 1.5 * small > 0
    assert price.microusd(usage(1000, 0, 5000)) <= price.microusd(usage(1000, 0))


def test_tiered_price_rounds_up() -> None:
    price = listed_price("gemini-2.5-pro", GOOGLE)
    assert isinstance(price, TieredPrice)
    exact = price.model.calc_price(Usage(input_tokens=1))["total_price"] * 1_000_000
    assert exact % 1 != 0, "the test needs a price with a fraction"
    assert price.microusd(usage(1, 0)) == ceil(exact)


def test_tiered_price_of_many_tokens_is_exact() -> None:
    price = listed_price("gemini-2.5-pro", GOOGLE)
    assert isinstance(price, TieredPrice)
    dollars = price.model.calc_price(Usage(input_tokens=1_000_000))["total_price"]
    assert price.microusd(usage(1_000_000, 0)) == dollars * 1_000_000 > 1_000_000


@pytest.mark.parametrize(
    ("cost", "microusd"),
    [
        (0.0000011, 2),  # rounded up
        (0.000003, 3),
        (0.000123, 123),  # as a float, 0.000123 * 1,000,000 is 123.00000000000001
        ({"total_cost": 0.0000011}, 2),
        (0.36, 360_000),  # the bound of 36 tokens
        (0.3601, None),
        (0, None),
        (-1, None),
        (True, None),
        ("0.1", None),
    ],
)
def test_stated_cost_is_rounded_up_and_bounded(cost: object, microusd: int | None) -> None:
    assert stated_microusd({"cost": cost}, 36) == microusd
