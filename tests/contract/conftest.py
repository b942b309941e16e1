"""What every contract suite over adapters needs."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from apps.provider_simulator.server import ProviderSimulator
from platform_app.llm.base import ModelAdapter
from tests.support.wires import WIRES, adapter_for, url_of


class Connections:
    """How many connections a session made."""

    def __init__(self) -> None:
        self.made = 0
        self.trace = aiohttp.TraceConfig()
        self.trace.on_connection_create_end.append(self._count)

    async def _count(self, *_: object) -> None:
        self.made += 1


@pytest.fixture
def connections() -> Connections:
    return Connections()


@pytest.fixture
async def session(connections: Connections) -> AsyncIterator[aiohttp.ClientSession]:
    """A session with one connection: whatever keeps it is noticed by the next call."""
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(connector=connector, trace_configs=[connections.trace]) as opened:
        yield opened


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> str:
    """Each wire format in turn."""
    name: str = request.param
    return name


@pytest.fixture
def adapter(session: aiohttp.ClientSession, simulator: ProviderSimulator, wire: str) -> ModelAdapter:
    """The wire format's adapter, against the simulator."""
    return adapter_for(wire, session, url_of(wire, simulator))
