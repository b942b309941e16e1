"""The fixtures of the contract tests over adapters."""

from collections.abc import AsyncIterator

import pytest

from apps.provider_simulator.server import ProviderSimulator
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.interfaces import ModelAdapter
from tests.support.providers.faults import IDLE_SECONDS
from tests.support.providers.wires import WIRES, adapter_for, url_of


@pytest.fixture
async def pool() -> AsyncIterator[ConnectionPool]:
    """Open a pool of one connection: a connection that is not returned blocks the next call."""
    opened = ConnectionPool(1)
    yield opened
    await opened.aclose()


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> str:
    """Yield each wire format."""
    name: str = request.param
    return name


@pytest.fixture
def adapter(
    pool: ConnectionPool, simulator: ProviderSimulator, wire: str, request: pytest.FixtureRequest
) -> ModelAdapter:
    """Create the adapter of the wire format for the simulator. Only tests with a hanging fault in their parameters get
    a short idle timeout; no other test reaches one, on any machine."""
    timeouts = {"idle_timeout": IDLE_SECONDS} if "hang" in request.node.name else {}
    return adapter_for(wire, pool, url_of(wire, simulator), **timeouts)
