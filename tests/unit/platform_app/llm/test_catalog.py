"""Public models and their routes."""

import pytest

from platform_app.config import PlatformConfig
from platform_app.errors import ModelNotFound
from platform_app.llm.catalog import Catalog
from platform_app.llm.prices import FlatPrice
from platform_app.llm.route import Route

CONFIG = PlatformConfig.model_validate(
    {
        "providers": {
            "openai": {"base_url": "https://api.openai.com/v1", "api_key_secret": "OPENAI_API_KEY"},
            "spare": {"base_url": "http://spare/v1"},
        },
        "models": {
            "small": {"routes": [{"provider": "openai", "model": "gpt-4o-mini"}]},
            "big": {
                "routes": [
                    {"provider": "openai", "model": "gpt-4o", "weight": 3, "timeout_seconds": 5},
                    {"provider": "spare", "model": "other"},
                    {
                        "provider": "spare",
                        "model": "gpt-4o",
                        "price": {"input_usd_per_million": 1, "output_usd_per_million": "2.5"},
                    },
                ]
            },
        },
    }
)


def test_routes_are_in_the_files_order_with_what_they_take() -> None:
    first, second, third = Catalog(CONFIG, "small").routes("big")
    assert (first.provider, first.upstream_model, first.secret_name) == ("openai", "gpt-4o", "OPENAI_API_KEY")
    assert (first.public_model, first.weight, first.timeout_seconds) == ("big", 3, 5)
    assert second == Route("big", "spare", "other")
    assert third.price == FlatPrice(1.0, 2.5, 1.0)


def test_prices_are_listed_by_the_providers_address() -> None:
    """The same model's name at an address that nobody knows has no price."""
    first, second, _ = Catalog(CONFIG, "small").routes("big")
    assert first.price is not None
    assert second.price is None


@pytest.mark.parametrize("asked", [None, ""])
def test_without_a_model_the_default_is_meant(asked: str | None) -> None:
    assert Catalog(CONFIG, "small").routes(asked)[0].public_model == "small"


@pytest.mark.parametrize("asked", ["gpt-4o", "BIG", "big ", "../big"])
def test_only_public_names_are_models(asked: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        Catalog(CONFIG, "small").routes(asked)
    assert f"'{asked}'" in caught.value.message


def test_a_long_name_is_not_repeated_whole() -> None:
    with pytest.raises(ModelNotFound) as caught:
        Catalog(CONFIG, "small").routes("x" * 10_000)
    assert len(caught.value.message) < 300


def test_models_are_sorted() -> None:
    assert Catalog(CONFIG, "small").models == ["big", "small"]
