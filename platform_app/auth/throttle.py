"""Slowing down whoever keeps sending keys that do not work."""

from typing import Protocol


class FailureThrottle(Protocol):
    """Counts failed authentications by client address."""

    def check(self, address: str) -> None:
        """Asked before any I/O is spent on a key that is not known to be good. No I/O itself.

        Raises:
            RateLimited: this address failed too often.
        """
        ...

    async def failed(self, address: str) -> None:
        """One more failure; never raises."""
        ...


class NoThrottle:
    """For where failures are not counted."""

    def check(self, address: str) -> None:
        """Lets everybody pass."""

    async def failed(self, address: str) -> None:
        """Counts nothing."""
