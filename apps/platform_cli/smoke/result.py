"""What a smoke check reports."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from apps.platform_cli.terminal.colour import coloured

Status = Literal["passed", "failed", "skipped"]


class CheckFailed(Exception):
    """The gateway did not do what the check expected."""

    def __init__(self, expected: str, received: str, remedy: str) -> None:
        super().__init__(received)
        self.expected = expected
        self.received = received
        self.remedy = remedy


class CheckSkipped(Exception):
    """The check cannot run with these options or this key; the message says why."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of one check. `expected` and `remedy` are set for a failed check only."""

    name: str
    status: Status
    seconds: float
    detail: str
    """What was received, or why the check was skipped."""
    expected: str | None = None
    remedy: str | None = None

    def plain(self) -> dict[str, Any]:
        """The result as JSON-ready values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The result for a terminal."""
        mark = {"passed": "ok  ", "failed": coloured("FAIL", "red"), "skipped": "skip"}[self.status]
        if self.status != "failed":
            return [f"{mark}  {self.name:<16} {self.detail}"]
        return [
            f"{mark}  {self.name:<16} received: {self.detail}",
            f"{'':<22} expected: {self.expected}",
            f"{'':<22} to do: {self.remedy}",
        ]
