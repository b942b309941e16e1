"""The metadata of a model in /v1/models: only what is known, the config file first."""

from collections.abc import Mapping
from typing import Any

import pytest

from platform_app.config import PlatformConfig
from platform_app.llm.models.builder import routes_by_model
from platform_app.llm.models.metadata import model_metadata

PROVIDERS = {
    "openai": {"base_url": "https://api.openai.com/v1"},
    "anthropic": {"base_url": "https://api.anthropic.com", "wire_format": "anthropic"},
    "google": {"base_url": "https://generativelanguage.googleapis.com/v1beta/openai"},
    "own": {"base_url": "http://127.0.0.1:8000/v1"},
    "own-messages": {"base_url": "http://127.0.0.1:8000", "wire_format": "anthropic"},
}


def facts(
    *routes: tuple[str, str], name: str = "m", price: Mapping[str, Any] | None = None, **model: Any
) -> dict[str, Any]:
    made = [{"provider": provider, "model": upstream} for provider, upstream in routes]
    if price is not None:
        made[0]["price"] = price  # type: ignore[assignment]
    config = PlatformConfig.model_validate({"providers": PROVIDERS, "models": {name: {"routes": made, **model}}})
    base_urls = {name: provider.base_url for name, provider in config.providers.items()}
    return model_metadata(name, config.models[name], routes_by_model(config)[name], base_urls)


def test_listed_model_has_price_and_context() -> None:
    assert facts(("openai", "gpt-4o-mini")) == {
        "kind": "chat",
        "context_window": 128_000,
        "price": {
            "input_usd_per_million": "0.15",
            "output_usd_per_million": "0.6",
            "cached_input_usd_per_million": "0.075",
        },
    }


def test_anthropic_model_has_capabilities() -> None:
    made = facts(("anthropic", "claude-haiku-4-5"))
    assert (made["context_window"], made["max_output_tokens"]) == (200_000, 64_000)
    assert made["capabilities"] == ["documents", "images", "json_schema", "prompt_caching", "reasoning", "tools"]
    assert made["price"]["cache_write_usd_per_million"] == "1.25"
    assert "reasoning" not in facts(("anthropic", "claude-3-haiku"))["capabilities"]


def test_unknown_model_has_only_its_kind() -> None:
    assert facts(("own", "house-model-7")) == {"kind": "chat"}
    assert facts(("own-messages", "house-model-7")) == {"kind": "chat"}


def test_metadata_of_several_routes_is_what_all_share() -> None:
    made = facts(("anthropic", "claude-sonnet-4-6"), ("anthropic", "claude-3-5-haiku-latest"))
    assert (made["context_window"], made["max_output_tokens"]) == (200_000, 8192)
    assert "json_schema" not in made["capabilities"]
    assert "capabilities" not in facts(("anthropic", "claude-sonnet-4-6"), ("own", "x"))


@pytest.mark.parametrize(
    ("upstream", "kind"),
    [
        ("text-embedding-3-small", "embedding"), ("mistral-embed", "embedding"), ("BAAI/bge-m3", "embedding"),
        ("intfloat/e5-large", "embedding"), ("voyage-3", "embedding"), ("gpt-4o", "chat"), ("page5-chat", "chat"),
    ],
)  # fmt: skip
def test_kind_follows_model_name(upstream: str, kind: str) -> None:
    assert facts(("own", upstream))["kind"] == kind


def test_config_file_overrides_metadata() -> None:
    made = facts(
        ("openai", "gpt-4o-mini"),
        price={"input_usd_per_million": "0.000001", "output_usd_per_million": 1000},
        kind="embedding", context_tokens=5, max_output_tokens=6, features=["tools"],
    )  # fmt: skip
    assert (made["kind"], made["context_window"]) == ("embedding", 5)
    assert "capabilities" not in made  # of a chat
    assert made["price"]["input_usd_per_million"] == "0.000001"
    assert made["price"]["output_usd_per_million"] == "1000"
    chat = facts(("openai", "gpt-4o-mini"), context_tokens=5, max_output_tokens=6, features=["tools"])
    assert (chat["max_output_tokens"], chat["capabilities"]) == (6, ["tools"])


def test_tiered_price_shows_first_tier() -> None:
    made = facts(("google", "gemini-2.5-pro"))
    assert made["price"] == {"input_usd_per_million": "1.25", "output_usd_per_million": "10", "tiered": True}
