"""Public models and their routes."""

from platform_app.config import PlatformConfig
from platform_app.llm.models.builder import routes_by_model
from platform_app.llm.models.route import Route
from platform_app.llm.usage.pricing import FlatPrice

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


def test_routes_keep_order_and_settings() -> None:
    first, second, third = routes_by_model(CONFIG)["big"]
    assert (first.provider, first.upstream_model, first.secret_name) == ("openai", "gpt-4o", "OPENAI_API_KEY")
    assert (first.public_model, first.weight, first.timeout_seconds) == ("big", 3, 5)
    assert second == Route("big", "spare", "other")
    assert third.price == FlatPrice(1.0, 2.5, 1.0, 1.0, 1.0)


def test_first_token_timeout_of_route_has_precedence() -> None:
    content = CONFIG.model_dump(mode="json")
    content["policies"]["first_token_seconds"] = 8
    content["models"]["big"]["routes"][1]["first_token_seconds"] = 30
    routes = routes_by_model(PlatformConfig.model_validate(content))["big"]
    assert [route.first_token_seconds for route in routes] == [8, 30, 8]
    assert routes_by_model(CONFIG)["big"][0].first_token_seconds is None


def test_price_is_found_by_provider_url() -> None:
    """The same model name at an unknown URL has no price."""
    first, second, _ = routes_by_model(CONFIG)["big"]
    assert first.price is not None
    assert second.price is None
