"""Return memory to the system after the start and after bursts, where the C library is glibc."""

import ctypes
from collections.abc import Callable

BURST_BYTES = 8 * 1024 * 1024
"""Buffered bytes after which free memory is worth returning."""
PAUSE_SECONDS = 60.0
"""Between two returns. One takes milliseconds, in which the event loop stands still."""


def return_free_memory() -> None:
    """Return to the system what was needed and freed. Without this, the C library keeps what many small blocks took."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class BurstMemory:
    """Returns memory once a burst of buffered bytes is over."""

    def __init__(self, give_back: Callable[[], None] = return_free_memory) -> None:
        self._give_back = give_back
        self._peak = 0
        self._returned_at = float("-inf")

    @property
    def pending(self) -> bool:
        """Whether there was a burst whose memory was not returned yet."""
        return self._peak >= BURST_BYTES

    def note(self, buffered: int, now: float) -> None:
        """Take the bytes that are buffered now, and return memory if most of a burst was freed."""
        self._peak = max(self._peak, buffered)
        if self.pending and buffered < self._peak // 4 and now - self._returned_at >= PAUSE_SECONDS:
            self._give_back()
            self._peak, self._returned_at = buffered, now
