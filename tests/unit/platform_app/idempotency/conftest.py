"""A service, and the store in memory behind it."""

import pytest

from platform_app.idempotency.service import IdempotencyService
from tests.support.fakes.memory_store import MemoryStore
from tests.support.idempotency.in_process import POLICY


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def keeper(store: MemoryStore) -> IdempotencyService:
    return IdempotencyService(store, POLICY)
