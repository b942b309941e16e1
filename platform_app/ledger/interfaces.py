"""The ledger as requests see it."""

from typing import Protocol

from platform_app.ledger.events.event import LedgerEvent, UsageRecord


class Intent(Protocol):
    """A call to a provider that is recorded before it is sent. If the process dies before `end`, the record is shipped
    as it stands, and what was reserved for the call is charged."""

    def update(self, record: UsageRecord, settlement: object = None) -> None:
        """The call is sent once more, perhaps to another provider."""
        ...

    def end(self) -> None:
        """Withdraw it: the call is over, and its own record was appended."""
        ...


class NullIntent:
    """Of a ledger that records nothing."""

    def update(self, record: UsageRecord, settlement: object = None) -> None:
        """Forget it."""

    def end(self) -> None:
        """There is nothing to withdraw."""


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

    def intend(self, record: UsageRecord, settlement: object = None) -> Intent:
        """Record a call before it is sent. Never raises.

        Args:
            record: what is recorded if the process dies before the call's end; its end has the same event id and time.
            settlement: what the limiter wrote down of the call's reservations (`Admission.settlement`).
        """
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

    def intend(self, record: UsageRecord, settlement: object = None) -> Intent:
        """Forget it."""
        return NullIntent()
