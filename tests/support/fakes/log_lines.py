"""A log sink that keeps the lines."""

import json
from typing import Any

from platform_app.observability.logs.sink import LogSink


class Lines(LogSink):
    """Keeps what it gets."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__(descriptor=-1)
        self.raw: list[bytes] = []
        self.terminal = terminal

    def write(self, line: bytes) -> None:
        """Keep the line; no thread writes it."""
        self.raw.append(line)

    def is_terminal(self) -> bool:
        """Return what the test chose."""
        return self.terminal

    @property
    def last(self) -> dict[str, Any]:
        """Return the last line, which must be JSON."""
        line: dict[str, Any] = json.loads(self.raw[-1])
        return line

    @property
    def all(self) -> list[dict[str, Any]]:
        """Return all lines, which must be JSON."""
        return [json.loads(line) for line in self.raw]
