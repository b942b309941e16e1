"""Callers with an Idempotency-Key, and the provider simulator with its counts at zero."""

import asyncio
import itertools
from collections.abc import Iterator

import httpx
import pytest

from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import Platform
from tests.support.gateway.process import Gateway
from tests.support.idempotency.caller import Caller, provider_calls

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def everything_key(platform: Platform) -> str:
    return platform.key("platform:chat", "platform:embeddings")


@pytest.fixture
def caller(client: httpx.AsyncClient, gateway: Gateway, everything_key: str) -> Caller:
    return Caller(client, gateway, everything_key)


@pytest.fixture
def fresh() -> str:
    """An Idempotency-Key that was not used before."""
    return f"order-{next(_numbers)}"


@pytest.fixture
async def sim(simulator: ProviderSimulator) -> ProviderSimulator:
    """Nothing counted. What other tests' clients left behind waits while a gateway starts, since the simulator lives in
    this loop; it is let in first."""
    counted = -1
    while counted != provider_calls(simulator):
        counted = provider_calls(simulator)
        await asyncio.sleep(0.1)
    simulator.reset()
    return simulator


@pytest.fixture(scope="module")
def second(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Another gateway beside the session's, with two workers; it stores only small responses."""
    environment = {
        **platform.environment,
        "PLATFORM_IDEMPOTENCY_MAX_BYTES": "1024",
        "PLATFORM_IDEMPOTENCY_KEY_QUOTA_BYTES": "65536",
        "PLATFORM_PROVIDER_IDLE_TIMEOUT_SECONDS": "60",
    }
    with Gateway(environment, tmp_path_factory.mktemp("second"), workers=2) as running:
        yield running
