"""How many of a route's latest calls failed."""

SLICES = 10


class HealthWindow:
    """Counts over a sliding time, in ten slices: the oldest is forgotten as a whole, so a call counts for 90 to 100 %
    of the window. Fixed memory, whatever the traffic."""

    def __init__(self, window_seconds: float) -> None:
        self._slice_seconds = window_seconds / SLICES
        self._calls = [0] * SLICES
        self._failures = [0] * SLICES
        self._latest = 0
        """Number of the slice that was counted into last, since the clock's zero."""

    def add(self, failed: bool, now: float) -> None:
        """Count one call."""
        self._forget(now)
        self._calls[self._latest % SLICES] += 1
        self._failures[self._latest % SLICES] += failed

    def counts(self, now: float) -> tuple[int, int]:
        """Calls, and how many of them failed."""
        self._forget(now)
        return sum(self._calls), sum(self._failures)

    def clear(self) -> None:
        """Forget all."""
        self._calls = [0] * SLICES
        self._failures = [0] * SLICES

    def _forget(self, now: float) -> None:
        current = int(now / self._slice_seconds)
        passed = current - self._latest
        if passed > 0:
            for number in range(current - min(passed, SLICES) + 1, current + 1):
                self._calls[number % SLICES] = self._failures[number % SLICES] = 0
            self._latest = current
