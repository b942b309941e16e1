"""The route that these tests call."""

import pytest

from tests.support.fakes.memory_store import MemoryStore
from tests.support.idempotency.route import Route


@pytest.fixture
def route() -> Route:
    return Route(MemoryStore())
