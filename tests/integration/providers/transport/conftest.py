"""The transport on both event loops: uvloop, as in production, and asyncio's own."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Return a function that runs a coroutine to its end on a new loop."""
    return asyncio.run if request.param == "asyncio" else uvloop.run
