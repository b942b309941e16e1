"""The flood guard: the first lines of an event in a second are written, and its further lines are counted.

A failing dependency can make one event repeat for each request. The first lines say what happens; the others would cost
CPU and disk, and hide other events. An event is its component, name and level.
"""

import threading
import time
from collections.abc import Callable

Repeated = tuple[str, str, str]
"""Component, event and level."""

WINDOW_SECONDS = 1.0
MAX_EVENTS = 256
"""Events that are counted separately in one second. Further ones share one count for each level, so memory is bounded
although a library's message can contain any text."""
OTHER = "other"


class FloodGuard:
    """Decide for each line whether it is written. Safe from any thread."""

    def __init__(
        self,
        per_second: int,
        suppressed: Callable[[], None],
        summarise: Callable[[Repeated, int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            per_second: lines of one event that are written in one second; 0: no bound.
            suppressed: counts a line that is not written.
            summarise: writes one line about an event and the number of its lines that were not written.
            clock: returns seconds.
        """
        self._per_second = per_second
        self._suppressed = suppressed
        self._summarise = summarise
        self._clock = clock
        # Reentrant: a garbage collection in here can run a destructor that logs.
        self._lock = threading.RLock()
        self._ends = 0.0
        self._counts: dict[Repeated, int] = {}
        """Lines of the current second."""
        self._unwritten: dict[Repeated, int] = {}
        """Lines that were not written in seconds that have ended."""

    def admits(self, component: str, event: str, level: str) -> bool:
        """Return whether to write this line, and count it."""
        if not self._per_second:
            return True
        with self._lock:
            self._end_window(self._clock())
            repeated = (component, event, level)
            if repeated not in self._counts and len(self._counts) >= MAX_EVENTS:
                repeated = (OTHER, OTHER, level)
            count = self._counts[repeated] = self._counts.get(repeated, 0) + 1
        if count <= self._per_second:
            return True
        self._suppressed()
        return False

    def write_summaries(self, *, closing: bool = False) -> None:
        """Write one line for each event that had too many lines in a second that has ended. Call it often, outside of
        any request; at the end of the process with `closing`, which ends the current second."""
        with self._lock:
            self._end_window(float("inf") if closing else self._clock())
            ended, self._unwritten = self._unwritten, {}
        for repeated, count in ended.items():
            self._summarise(repeated, count)

    def _end_window(self, now: float) -> None:
        if now < self._ends:
            return
        self._ends = now + WINDOW_SECONDS
        for repeated, count in self._counts.items():
            if count > self._per_second:
                # No summary is written while the reader of stdout hangs.
                known = repeated in self._unwritten or len(self._unwritten) < MAX_EVENTS
                key = repeated if known else (OTHER, OTHER, repeated[2])
                self._unwritten[key] = self._unwritten.get(key, 0) + count - self._per_second
        self._counts.clear()
