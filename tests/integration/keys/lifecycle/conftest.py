"""Fixtures that give each test a separate database."""

from collections.abc import AsyncIterator

import pytest

from platform_app.db import migrations
from tests.conftest import Platform
from tests.support.gateway.key_lifecycle import ONE, Keys, keys_at


@pytest.fixture
def own_database(empty_database: str) -> str:
    """A database at head, without any key."""
    migrations.upgrade(empty_database)
    return empty_database


@pytest.fixture
async def keys(own_database: str) -> AsyncIterator[Keys]:
    async with keys_at(own_database) as opened:
        yield opened


@pytest.fixture
def own_environment(own_database: str, platform: Platform) -> dict[str, str]:
    pepper = {"PLATFORM_API_KEY_PEPPER": f"1:{ONE}"}
    return {**platform.environment, "PLATFORM_DATABASE_URL": own_database, **pepper}
