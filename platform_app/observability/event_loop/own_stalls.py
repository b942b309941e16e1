"""Timeouts that count only the time in which this process's event loop was responsive.

After the event loop was blocked for a second, all its timeouts have expired at once, although every response may
already be in the sockets. So a dependency's timeout is measured by a clock that is read often and that no single gap
moves far.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

TICKS = 10
"""How often the clock is read within one timeout."""
LAST_LOOKS = 3
"""Event-loop iterations before a timeout takes effect; they read what has already arrived."""


class ResponsiveClock:
    """A clock that advances when it is read, by at most twice the tick per reading."""

    __slots__ = ("_last", "_read", "now", "tick")

    def __init__(self, timeout_seconds: float, read: Callable[[], float] = time.monotonic) -> None:
        """Return a clock for timeouts of this length."""
        self.tick = timeout_seconds / TICKS
        self._read = read
        self._last = read()
        self.now = 0.0

    def begin(self) -> None:
        """Skip the time since the last reading, in which nothing was awaited."""
        self._last = self._read()

    def look(self) -> float:
        """Advance the clock and return its time."""
        at = self._read()
        self.now += min(at - self._last, 2 * self.tick)
        self._last = at
        return self.now


async def finished_within(task: asyncio.Future[Any], seconds: float) -> bool:
    """Wait for a task for that many responsive seconds. Return whether it is done."""
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
    """Return the result of `work`, which is cancelled after that many responsive seconds.

    Raises:
        TimeoutError: `work` was not done in time.
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
