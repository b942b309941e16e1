"""The transport on both event loops: uvloop, which production runs on, and asyncio's own."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine to its end on a loop of its own."""
    return asyncio.run if request.param == "asyncio" else uvloop.run
