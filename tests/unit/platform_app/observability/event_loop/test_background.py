"""The life of what runs in the background."""

import asyncio
from contextlib import AsyncExitStack

from structlog.testing import capture_logs

from platform_app.observability.event_loop.background import run_until_closed


async def fails() -> None:
    raise KeyError(11395)


async def runs(running: asyncio.Event) -> None:
    running.set()
    try:
        await asyncio.Event().wait()
    finally:
        running.clear()


async def test_failing_background_task_is_logged_at_once() -> None:
    running = asyncio.Event()
    with capture_logs() as logs:
        async with AsyncExitStack() as stack:
            run_until_closed(stack, runs(running))
            run_until_closed(stack, fails())
            async with asyncio.timeout(300):
                await running.wait()
                while not logs:
                    await asyncio.sleep(0)
            assert [line["event"] for line in logs] == ["background_task_failed"]
            assert logs[0]["task"] == "fails"
    assert not running.is_set()
    assert len(logs) == 1, "a task that was cancelled is no failure"
