"""A timer of the worker's event loop: it measures how late it runs, and writes the metrics that changed."""

import asyncio
import time
from collections.abc import Callable

from platform_app.observability import metrics
from platform_app.observability.metrics.changes import CHANGES

TICK_SECONDS = 0.1


def start_loop_timer(clock: Callable[[], float] = time.monotonic) -> None:
    """Tick ten times a second as long as the running loop runs."""
    loop = asyncio.get_running_loop()
    due = clock() + TICK_SECONDS

    def tick() -> None:
        nonlocal due
        now = clock()
        # The loop's timers count from the start of an iteration, so a tick may also be a little early.
        metrics.EVENT_LOOP_LAG_SECONDS.observe(max(0.0, now - due))
        CHANGES.write()
        due = now + TICK_SECONDS
        loop.call_later(TICK_SECONDS, tick)

    loop.call_later(TICK_SECONDS, tick)
