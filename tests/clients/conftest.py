"""Gateways with every wire format behind them: one for requests written by hand, one for official clients."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.provider_simulator.faults.catalog import MODELS
from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import GENEROUS, PATIENT, Platform
from tests.support.gateway.process import Gateway, write_catalog
from tests.support.providers.client_models import EMBEDDING as SDK_EMBEDDING
from tests.support.providers.client_models import FALLBACK, FAULTS, TIGHT, TIGHT_WINDOW_SECONDS, WIRES, providers_of
from tests.support.providers.simulator_thread import running_simulator
from tests.support.servers.node import installed_modules

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


@pytest.fixture(scope="session")
def provider() -> Iterator[ProviderSimulator]:
    """Run a simulator for the official clients."""
    with running_simulator() as running:
        yield running


@pytest.fixture(scope="session")
def clients_platform(
    platform: Platform, provider: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Platform:
    """Return the platform with the models of tests/support/providers/client_models.py."""
    config = _write_config(tmp_path_factory.mktemp("sdks") / "platform.yaml", provider)
    chosen = {"PLATFORM_CONFIG_FILE": str(config), "PLATFORM_DEFAULT_MODEL": "openai-ok"}
    return Platform({**platform.environment, **chosen})


@pytest.fixture(scope="session")
def clients_gateway(clients_platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run one gateway for all clients."""
    with Gateway(clients_platform.environment, tmp_path_factory.mktemp("sdks-gateway")) as running:
        yield running


@pytest.fixture(scope="session")
def client_key(clients_platform: Platform) -> str:
    """Return a key for everything that OpenAI clients call."""
    return clients_platform.key("platform:chat", "platform:embeddings", "platform:models:read")


@pytest.fixture
def tight_key(clients_platform: Platform) -> str:
    """Return a new key whose tight limit is unused."""
    return clients_platform.key("platform:chat")


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> str:
    """Yield each wire format that a model's route can have."""
    return str(request.param)


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """Return the installed official npm client; skip without Node.js."""
    return installed_modules()


def _write_config(path: Path, provider: ProviderSimulator) -> Path:
    models = {f"{wire}-{fault}": [(wire, f"sim-{fault}@clients")] for wire in WIRES for fault in FAULTS}
    models |= {f"{wire}-{TIGHT}": [(wire, "sim-ok@clients")] for wire in WIRES}
    models[SDK_EMBEDDING] = [("openai", "text-embedding-3-small")]
    models[FALLBACK] = [("down", "gpt-4o"), ("azure", "sim-ok@fallback")]
    tight = {
        "name": TIGHT,
        "scope": "key",
        "models": [f"{wire}-{TIGHT}" for wire in WIRES],
        "limit": 1,
        "window_seconds": TIGHT_WINDOW_SECONDS,
    }
    return write_catalog(
        path,
        {**providers_of(provider), "down": {"base_url": provider.refused_url}},
        models,
        rate_limits={"rules": [*GENEROUS["rules"], tight]},
        policies=PATIENT,
    )
