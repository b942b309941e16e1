"""Time in which this process's own event loop was responsive: what a dependency may be blamed for.

A loop that is held up for a second finds all its timeouts over at once, although every response may lie in its
sockets. So waits are told by a clock that is looked at often, and that no single gap moves far.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

TICKS = 10
"""Looks at the clock within one timeout."""
LAST_LOOKS = 3
"""Iterations of the loop before a wait is given up: what has arrived meanwhile is read in them."""


class ResponsiveClock:
    """Counts the seconds between looks at it, of each gap at most twice the tick."""

    __slots__ = ("_last", "_read", "now", "tick")

    def __init__(self, timeout_seconds: float, read: Callable[[], float] = time.monotonic) -> None:
        """For waits of this length."""
        self.tick = timeout_seconds / TICKS
        self._read = read
        self._last = read()
        self.now = 0.0

    def begin(self) -> None:
        """The time since the last look does not count: nothing was waited for."""
        self._last = self._read()

    def look(self) -> float:
        """Move on; returns the clock's time."""
        at = self._read()
        self.now += min(at - self._last, 2 * self.tick)
        self._last = at
        return self.now


async def finished_within(task: asyncio.Future[Any], seconds: float) -> bool:
    """Wait for a task, for so many seconds in which the loop was responsive; whether it is done."""
    clock = ResponsiveClock(seconds)
    while clock.now < seconds:
        done, _ = await asyncio.wait({task}, timeout=min(clock.tick, seconds - clock.now))
        if done:
            return True
        clock.look()
    for _ in range(LAST_LOOKS):
        await asyncio.sleep(0)
    return task.done()


async def result_within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled after so many seconds in which the loop was responsive.

    Raises:
        TimeoutError: it was not done.
    """
    task = asyncio.ensure_future(work)
    try:
        if await finished_within(task, seconds):
            return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
    raise TimeoutError(f"not done within {seconds:g} s")
