"""One proxy before the session's gateway."""

from collections.abc import Iterator

import pytest

from tests.attacks.proxies.proxy import PROXIES, ProxyKind
from tests.attacks.raw_http import Address
from tests.support.gateway.process import Gateway
from tests.support.servers.network.ports import free_port


@pytest.fixture(scope="module", params=PROXIES, ids=lambda kind: kind.name)
def proxy(
    request: pytest.FixtureRequest, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Address]:
    """The address of each proxy in turn; skipped where its program is not installed."""
    kind: ProxyKind = request.param
    if kind.path is None:
        pytest.skip(f"{kind.program} is not installed")
    port = free_port()
    child = kind.start(tmp_path_factory.mktemp(kind.name), port, gateway.port)
    yield ("127.0.0.1", port)
    assert child.poll() is None, child.failure()
    child.stop()
