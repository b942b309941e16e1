"""The interface that refuses client addresses with too many failed authentications."""

from typing import Protocol


class FailureThrottle(Protocol):
    """Counts failed authentications by client address."""

    def check(self, address: str) -> None:
        """Check an address before any I/O for a key that is not cached as valid. Does no I/O.

        Raises:
            RateLimited: this address had too many failures.
        """
        ...

    async def failed(self, address: str) -> None:
        """Count one failure; never raises."""
        ...


class NoThrottle:
    """Counts nothing: for gateways with PLATFORM_AUTH_FAILURES_PER_MINUTE=0."""

    def check(self, address: str) -> None:
        """Do nothing."""

    async def failed(self, address: str) -> None:
        """Do nothing."""
