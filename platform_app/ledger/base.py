"""The ledger as requests see it."""

from typing import Protocol

from platform_app.ledger.event import LedgerEvent


class Ledger(Protocol):
    """Takes events. Neither method waits for anything but the system's page cache."""

    def admit(self) -> None:
        """Called before a request does any work that would have to be recorded.

        Raises:
            LedgerUnavailable: what the request does could not be recorded, and the policy is to refuse then.
        """
        ...

    def problem(self) -> str | None:
        """Why `admit` refuses now, for people; None where it does not."""
        ...

    def append(self, event: LedgerEvent) -> None:
        """Record an event; called before the answer's last byte. Never raises: an admitted request goes on."""
        ...


class NullLedger:
    """Records nothing: for requests that are nobody's decision."""

    def admit(self) -> None:
        """Everything is welcome."""

    def problem(self) -> str | None:
        """There is none."""
        return None

    def append(self, event: LedgerEvent) -> None:
        """Forget it."""
