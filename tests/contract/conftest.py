"""What every contract suite over adapters needs."""

from collections.abc import AsyncIterator

import pytest

from apps.provider_simulator.server import ProviderSimulator
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.interfaces import ModelAdapter
from tests.support.providers.faults import IDLE_SECONDS
from tests.support.providers.wires import WIRES, adapter_for, url_of


@pytest.fixture
async def pool() -> AsyncIterator[ConnectionPool]:
    """A pool of one connection: whatever keeps it is noticed by the next call."""
    opened = ConnectionPool(1)
    yield opened
    await opened.aclose()


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> str:
    """Each wire format in turn."""
    name: str = request.param
    return name


@pytest.fixture
def adapter(
    pool: ConnectionPool, simulator: ProviderSimulator, wire: str, request: pytest.FixtureRequest
) -> ModelAdapter:
    """The wire format's adapter, against the simulator. Tests whose parameters name a fault that hangs meet its
    deadline; no other test does, on any machine."""
    silence = {"silence": IDLE_SECONDS} if "hang" in request.node.name else {}
    return adapter_for(wire, pool, url_of(wire, simulator), **silence)
