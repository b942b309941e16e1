"""An authenticator with fakes."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.auth.authenticator import World


@pytest.fixture
async def world(task_failures: list[str]) -> AsyncIterator[World]:
    """No test may hang, and no exception of a task may stay unretrieved."""
    async with asyncio.timeout(300):
        yield World()
    await asyncio.sleep(0)
    assert task_failures == []
