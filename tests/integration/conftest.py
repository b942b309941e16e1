"""An administrator at the session's gateway, and databases for the ledger."""

from collections.abc import Iterator

import httpx
import pytest

from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from tests.conftest import Platform
from tests.support.gateway.keys_api import Api
from tests.support.gateway.process import Gateway
from tests.support.ledger.database import migrate_up


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


@pytest.fixture(scope="module")
def ledger_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database at head for the events of one module."""
    postgres.create_database("ledger")
    url = postgres.url("ledger")
    migrate_up(url)
    yield url
    postgres.drop_database("ledger")


@pytest.fixture
def own_url(empty_database: str) -> str:
    """A database at head for one test."""
    migrate_up(empty_database)
    return empty_database
