"""What the lane needs to start and stop instances."""

from typing import Protocol


class Runner(Protocol):
    """Controls the instance of a port. Its directory says which release it runs (slots.py)."""

    def running(self, port: int) -> bool:
        """Return whether the instance runs."""

    def start(self, port: int) -> None:
        """Start the instance unless it runs; do not wait until it is ready. Raises LaneError."""

    def stop(self, port: int, seconds: float) -> None:
        """End the instance as SIGTERM does, and wait so many seconds at most. Raises LaneError if it still runs."""

    def log_of(self, port: int) -> str:
        """Return where the instance's log is, for people."""
