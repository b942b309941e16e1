"""Durations that a slow machine does not lengthen: time counts only while the event loop gets to run."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

TICK_SECONDS = 0.001


class ResponsiveTime:
    """Counts the naps of a millisecond that the running event loop completed.

    A nap never takes less than its millisecond, so `seconds` is at most the true duration: a code that holds its bound
    on time stays below it on any machine. On a machine that is not busy it is hardly less, so a code that takes several
    times its bound is noticed. It measures waiting, not work: code that blocks the event loop is not counted.
    """

    def __init__(self) -> None:
        self._ticks = 0

    @property
    def seconds(self) -> float:
        """What passed up to now."""
        return self._ticks * TICK_SECONDS

    async def count(self) -> None:
        """Count until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._ticks += 1


@asynccontextmanager
async def responsive_time() -> AsyncIterator[ResponsiveTime]:
    """Count while this is entered."""
    measured = ResponsiveTime()
    counting = asyncio.create_task(measured.count())
    try:
        yield measured
    finally:
        counting.cancel()
        await asyncio.wait([counting])
