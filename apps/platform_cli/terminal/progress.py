"""The progress of a long export, on stderr, if a person waits for it."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

FIRST_SECONDS = 1.0
"""A shorter export shows nothing."""
EACH_SECONDS = 0.5


class Progress:
    """Counts entries, and shows their number in one line that replaces itself.

    Shows nothing unless stderr is a terminal and stdout is not: entries and progress would mix.
    """

    def __init__(
        self,
        what: str,
        stream: TextIO | None = None,
        output: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._stream = stream or sys.stderr
        self._shown = self._stream.isatty() and not (output or sys.stdout).isatty()
        self._clock = clock
        self._next = clock() + FIRST_SECONDS
        self._count = 0
        self._drawn = False

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn:
            self._draw("done" if error is None else "stopped", "\n")

    def add(self, count: int, last: object = None) -> None:
        """Note more entries. `last` names the place that was reached, such as the time of the last entry."""
        self._count += count
        now = self._clock()
        if self._shown and now >= self._next:
            self._next = now + EACH_SECONDS
            self._draw("" if last is None else f"back to {last}", "")

    def _draw(self, note: str, end: str) -> None:
        self._drawn = True
        # \x1b[K clears the rest of the line: an earlier text may have been longer.
        self._stream.write(f"\r{self._count:,} {self._what}{f', {note}' if note else ''}\x1b[K{end}")
        self._stream.flush()
