"""A gateway with every wire format behind it, for clients written for OpenAI."""

from collections.abc import Iterator

import pytest

from apps.provider_simulator.faults.catalog import MODELS
from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import GENEROUS, PATIENT, Platform
from tests.support.gateway.process import Gateway, write_catalog

ALIAS = "house-model"
AZURE = "azure-gpt"
CLAUDE = "claude"
EMBEDDING = "house-embedding"
SCOPES = ("platform:chat", "platform:embeddings", "platform:models:read")
BURST = "burst"
"""A rule that applies only to keys with their own limit of this name."""


@pytest.fixture(scope="session")
def served(
    platform: Platform, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Start the gateway."""
    directory = tmp_path_factory.mktemp("clients")
    config = write_catalog(
        directory / "platform.yaml",
        {
            "simulator": {"base_url": simulator.base_url},
            "azure": {"wire_format": "azure", "base_url": simulator.azure_url, "api_version": "2024-10-21"},
            "anthropic": {"wire_format": "anthropic", "base_url": simulator.anthropic_url},
        },
        {
            **{name: [("simulator", name)] for name in MODELS},
            ALIAS: [("simulator", "sim-ok")],
            AZURE: [("azure", "sim-ok")],
            CLAUDE: [("anthropic", "sim-ok")],
            EMBEDDING: [("simulator", "text-embedding-3-small")],
        },
        rate_limits={"rules": [*GENEROUS["rules"], {"name": BURST, "scope": "key", "window_seconds": 2}]},
        policies=PATIENT,
    )
    with Gateway({**platform.environment, "PLATFORM_CONFIG_FILE": str(config)}, directory) as running:
        yield running


@pytest.fixture(scope="session")
def api_key(platform: Platform) -> str:
    """Return a key for everything that OpenAI clients can call here."""
    return platform.key(*SCOPES)
