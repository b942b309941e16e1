"""deploy/platform.example.yaml: each provider has its adapter, each model is served, and prices are known."""

import pytest

from platform_app.config import PlatformConfig, load_config, load_settings
from platform_app.llm.http.response import ProviderLimits
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.models.builder import routes_by_model
from platform_app.llm.providers.anthropic.adapter import AnthropicAdapter
from platform_app.llm.providers.factory import make_adapter
from platform_app.llm.providers.openai.adapter import OpenAIAdapter
from platform_app.llm.providers.openai.azure import AzureOpenAIAdapter
from platform_app.llm.providers.openai_responses.adapter import OpenAIResponsesAdapter
from tests.support.paths import ROOT

EXAMPLE = ROOT / "deploy" / "platform.example.yaml"
ADAPTERS = {
    "azure": AzureOpenAIAdapter,
    "anthropic": AnthropicAdapter,
    "openai": OpenAIAdapter,
    "openai-responses": OpenAIResponsesAdapter,
}


@pytest.fixture
def config() -> PlatformConfig:
    return load_config(
        load_settings(
            config_file=EXAMPLE,
            default_model="assistant",
            database_url="postgresql://a:b@localhost/c",
            redis_url="redis://localhost",
        )
    )


def test_every_provider_serves_a_model(config: PlatformConfig) -> None:
    used = {route.provider for model in config.models.values() for route in model.routes}
    assert used == set(config.providers)
    assert {provider.wire_format for provider in config.providers.values()} == set(ADAPTERS)


async def test_every_provider_has_adapter_of_its_format(config: PlatformConfig) -> None:
    pool = ConnectionPool(1)
    for provider in config.providers.values():
        adapter = make_adapter(provider, pool, ProviderLimits(1, 1, 1024))
        assert type(adapter) is ADAPTERS[provider.wire_format]


def test_every_route_of_large_providers_has_a_price(config: PlatformConfig) -> None:
    routes = [route for each in routes_by_model(config).values() for route in each]
    unpriced = {route.provider for route in routes if route.price is None}
    assert not unpriced & {"openai", "azure", "anthropic", "gemini", "mistral", "deepseek", "vllm", "ollama"}
