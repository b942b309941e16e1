"""The fixtures of the policies' tests."""

from collections.abc import AsyncIterator

import pytest

from apps.provider_simulator.server import ProviderSimulator
from platform_app.llm.http.transport.pool import ConnectionPool
from tests.support.providers.policy_chains import Chains, MakeChains


@pytest.fixture
async def pool() -> AsyncIterator[ConnectionPool]:
    opened = ConnectionPool(10_000)
    yield opened
    await opened.aclose()


@pytest.fixture
def chains(pool: ConnectionPool, simulator: ProviderSimulator) -> MakeChains:
    """Create chains to the simulator, whose records only this test uses."""
    simulator.reset()
    return lambda *routes, **more: Chains(pool, simulator.base_url, list(routes), **more)
