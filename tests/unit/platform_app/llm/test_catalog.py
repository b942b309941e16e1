"""Public models and their routes."""

import pytest

from platform_app.config import PlatformConfig
from platform_app.errors import ModelNotFound
from platform_app.llm.catalog import Catalog, Route

CONFIG = PlatformConfig.model_validate(
    {
        "providers": {
            "openai": {"base_url": "https://api.openai.com/v1", "api_key_secret": "OPENAI_API_KEY"},
            "spare": {"base_url": "http://spare/v1", "api_key_secret": "SPARE_KEY"},
        },
        "models": {
            "small": {"routes": [{"provider": "openai", "model": "gpt-4o-mini"}]},
            "big": {"routes": [{"provider": "openai", "model": "gpt-4o"}, {"provider": "spare", "model": "other"}]},
        },
    }
)


def test_routes_are_in_the_files_order_with_their_secrets() -> None:
    assert Catalog(CONFIG, "small").routes("big") == (
        Route("big", "openai", "gpt-4o", "OPENAI_API_KEY"),
        Route("big", "spare", "other", "SPARE_KEY"),
    )


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
