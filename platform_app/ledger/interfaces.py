"""The ledger as requests see it."""

from typing import Protocol

from platform_app.ledger.events.event import LedgerEvent, UsageRecord


class Intent(Protocol):
    """A call to a provider that is recorded before it is sent. If the process dies before `end`, the record is shipped
    as it was written last, and the call's reservation is charged."""

    def update(self, record: UsageRecord, settlement: object = None) -> None:
        """Replace the record: the call is sent again, perhaps to another provider."""
        ...

    def end(self) -> None:
        """Withdraw the intent: the call ended, and its record was appended."""
        ...


class NullIntent:
    """An intent of a ledger that records nothing."""

    def update(self, record: UsageRecord, settlement: object = None) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


class Ledger(Protocol):
    """Records events. No method waits for more than the system's page cache."""

    def admit(self) -> None:
        """Check that there is room, before a request does work that must be recorded.

        Raises:
            LedgerUnavailable: the request could not be recorded, and the policy is to refuse requests then.
        """
        ...

    def problem(self) -> str | None:
        """Return why `admit` refuses now, as text for an operator; None if it does not."""
        ...

    def append(self, event: LedgerEvent) -> None:
        """Record an event, before the last byte of the response. Never raises: an admitted request continues."""
        ...

    def intend(self, record: UsageRecord, settlement: object = None) -> Intent:
        """Record a call before it is sent. Never raises.

        Args:
            record: is stored if the process dies before the call ends. The call's end has the same event id and time.
            settlement: the call's reservations as the limiter describes them (`Admission.settlement`).
        """
        ...


class NullLedger:
    """Records nothing: for requests that are not recorded, such as probes."""

    def admit(self) -> None:
        """Admit every request."""

    def problem(self) -> str | None:
        """Return None."""
        return None

    def append(self, event: LedgerEvent) -> None:
        """Do nothing."""

    def intend(self, record: UsageRecord, settlement: object = None) -> Intent:
        """Do nothing."""
        return NullIntent()
