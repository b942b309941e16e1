"""The interface that refuses client addresses with too many failed authentications."""

from typing import Protocol

from platform_app.errors import RateLimited


class FailureThrottle(Protocol):
    """Counts failed authentications by client address."""

    def refusal(self, address: str) -> RateLimited | None:
        """Return the error for an invalid key from an address that had too many failures; else None. Does no I/O."""
        ...

    async def failed(self, address: str) -> None:
        """Count one failure; never raises."""
        ...


class NoThrottle:
    """Counts nothing: for gateways with PLATFORM_AUTH_FAILURES_PER_MINUTE=0."""

    def refusal(self, address: str) -> RateLimited | None:
        """Refuse no address."""
        return None

    async def failed(self, address: str) -> None:
        """Do nothing."""
