"""What every attack leaves behind: a gateway that is well."""

from collections.abc import Iterator

import pytest

from tests.attacks.proxies.invariant import READ_BY_A_PROXY
from tests.attacks.raw_http import Address
from tests.support.gateway.http import metric
from tests.support.gateway.process import Gateway


@pytest.fixture(scope="session")
def address(gateway: Gateway) -> Address:
    """The session's gateway, without a proxy before it."""
    return ("127.0.0.1", gateway.port)


@pytest.fixture(scope="module")
def healthy_gateway(gateway: Gateway) -> Iterator[Gateway]:
    """The session's gateway; after the module: no 500, no error in its log, the same process, and no hidden request."""
    before = metric(gateway.metrics(), "platform_http_requests_total", status="500")
    logged = len(gateway.log_lines())
    yield gateway
    assert gateway.child is not None
    assert gateway.child.poll() is None
    assert metric(gateway.metrics(), "platform_http_requests_total", status="500") == before
    lines = gateway.log_lines()[logged:]
    assert [line for line in lines if line.get("level") in ("error", "critical")] == []
    hidden = {str(line.get("request_id")) for line in lines if str(line.get("request_id", "")).endswith("-inner")}
    assert hidden - READ_BY_A_PROXY == set()
