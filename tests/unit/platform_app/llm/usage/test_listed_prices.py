"""Prices from the library: which models have one, and which rates follow from others."""

from decimal import Decimal

import pytest
from genai_prices.types import ModelPrice

from platform_app.config import PriceConfig
from platform_app.llm.usage import pricing
from platform_app.llm.usage.pricing import FlatPrice, configured_price, listed_price

OPENAI = "https://api.openai.com/v1"


class Calculated:
    """The library's result for a model with these rates."""

    def __init__(self, **rates: Decimal) -> None:
        self.model_price = ModelPrice(**rates)


def price_of(monkeypatch: pytest.MonkeyPatch, **rates: Decimal) -> object:
    monkeypatch.setattr(pricing, "calc_price", lambda *_, **__: Calculated(**rates))
    return listed_price("a-model", OPENAI)


def test_embedding_model_has_an_input_price_alone() -> None:
    price = listed_price("text-embedding-3-small", OPENAI)
    assert isinstance(price, FlatPrice)
    assert price.input > 0
    assert price.output == 0


def test_model_with_an_output_price_alone_is_priced(monkeypatch: pytest.MonkeyPatch) -> None:
    price = price_of(monkeypatch, output_mtok=Decimal(3))
    assert price == FlatPrice(0, 3, 0, 0, 0)


def test_model_that_is_not_charged_by_token_has_no_price(monkeypatch: pytest.MonkeyPatch) -> None:
    assert price_of(monkeypatch, requests_kcount=Decimal(1)) is None


def test_missing_cache_rates_follow_the_more_general_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"input_mtok": Decimal(2), "output_mtok": Decimal(4)}
    assert price_of(monkeypatch, **rates) == FlatPrice(2, 4, 2, 2, 2)
    assert price_of(monkeypatch, **rates, cache_read_mtok=Decimal(1)) == FlatPrice(2, 4, 1, 2, 2)
    assert price_of(monkeypatch, **rates, cache_write_mtok=Decimal(3)) == FlatPrice(2, 4, 2, 3, 3)


def test_configured_price_has_the_rates_of_the_file() -> None:
    config = PriceConfig(input_usd_per_million=Decimal(2), output_usd_per_million=Decimal(4))
    assert configured_price(config) == FlatPrice(2, 4, 2, 2, 2)
