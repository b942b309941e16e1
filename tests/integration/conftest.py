"""An administrator at the session's gateway."""

import httpx
import pytest

from tests.conftest import Platform
from tests.support.gateway.keys_api import Api
from tests.support.gateway.process import Gateway


@pytest.fixture(scope="session")
def admin_key(platform: Platform) -> str:
    return platform.key("platform:*")


@pytest.fixture
def admin(client: httpx.AsyncClient, gateway: Gateway, admin_key: str) -> Api:
    """An administrator at the session's gateway."""
    return Api(client, gateway.base_url, admin_key)


@pytest.fixture
def owner(request: pytest.FixtureRequest) -> str:
    """Return an owner that no other test uses."""
    return request.node.name[:150]  # type: ignore[no-any-return]
