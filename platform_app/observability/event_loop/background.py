"""Tasks that run in the background until an exit stack is closed."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

from platform_app.observability.logging import get_logger

_log = get_logger("resources")


def run_until_closed(stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    """Run a task in the background; closing the stack cancels it and waits for its end. A task that fails is a bug, and
    is logged at once."""
    task = asyncio.create_task(work)
    task.add_done_callback(_log_failure)

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(end)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("background_task_failed", task=getattr(task.get_coro(), "__qualname__", ""), exc_info=error)
