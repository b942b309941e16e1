"""Changed values wait in the process, and are written to the mapped file together (docs/adr/0034).

A worker writes them ten times a second. Every other process, and a worker whose metrics must be exact at once
(PLATFORM_METRICS_CACHE_SECONDS=0), writes each change immediately.
"""

from contextlib import suppress
from typing import Protocol


class Changed(Protocol):
    """A value, or a group of values, that differs from what was written of it."""

    def write(self) -> None:
        """Write the current state. Further changes are announced again."""


class Changes:
    """The values that were changed since the last writing, each once. Threads may add to it."""

    def __init__(self) -> None:
        self._waiting: list[Changed] = []
        self._at_once = True

    def add(self, changed: Changed) -> None:
        """Note a change; each `changed` announces only the first one since its last `write`."""
        self._waiting.append(changed)
        if self._at_once:
            self.write()

    def write(self) -> None:
        """Write all that wait."""
        waiting = self._waiting
        with suppress(IndexError):  # another thread wrote the last one
            while waiting:
                waiting.pop().write()

    def write_later(self) -> None:
        """From now on, write only when `write` is called."""
        self._at_once = False

    def write_at_once(self) -> None:
        """From now on, write each change immediately."""
        self._at_once = True
        self.write()


CHANGES = Changes()
"""Of this process."""
