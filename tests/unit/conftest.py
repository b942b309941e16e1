"""Hypothesis for unit tests: no deadline (machines differ) and no file left behind."""

import asyncio
import gc
import inspect
import os
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("unit", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset every variable of the platform, whatever the developer's shell sets."""
    for name in [name for name in os.environ if name.startswith("PLATFORM_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def ends_its_tasks(request: pytest.FixtureRequest) -> None:
    """Let no task of a test live on. The tests of a process share an event loop, so a task that one of them left is
    reported while another one runs: when it is collected as garbage."""
    if inspect.iscoroutinefunction(request.function):
        request.getfixturevalue("end_tasks")


@pytest.fixture
async def end_tasks() -> AsyncIterator[None]:
    """Cancel the tasks that the test started and left."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


@pytest.fixture
async def task_failures() -> AsyncIterator[list[str]]:
    """Return what the event loop reports while the test runs: exceptions that no code retrieved."""
    gc.collect()  # tasks that an earlier test left are not this test's
    loop = asyncio.get_running_loop()
    reported: list[str] = []
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: reported.append(str(context.get("message"))))
    yield reported
    loop.set_exception_handler(before)
