"""Read lines from the pipes of all workers, within a bounded buffer for each.

A pipe belongs to the place of one worker and not to one worker: the line of a killed worker may lack its end, and the
next worker then begins with a line feed.
"""

import os
import selectors
from collections.abc import Iterator

from platform_app.observability.tracing.sender import MAX_LINE_BYTES

_READ_BYTES = 65_536


class _Pipe:
    """The bytes of one pipe since its last line feed."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False
        """Whether the current line is too long. Its bytes are dropped up to its line feed."""

    def lines(self, data: bytes) -> list[bytes]:
        """Return the lines that these bytes complete. An overlong line is returned cut, and counts as damaged."""
        *ended, self._rest = (self._rest + data).split(b"\n")
        if self._skipping and ended:
            ended = ended[1:]
            self._skipping = False
        if len(self._rest) > MAX_LINE_BYTES:
            if not self._skipping:
                ended.append(self._rest[:MAX_LINE_BYTES])
            self._rest, self._skipping = b"", True
        return [line for line in ended if line]


class PipeReader:
    """The reading ends of all pipes. It ends when every writer has ended."""

    def __init__(self, descriptors: list[int]) -> None:
        self._selector = selectors.DefaultSelector()
        for descriptor in descriptors:
            self._selector.register(descriptor, selectors.EVENT_READ, _Pipe())

    @property
    def open(self) -> bool:
        """Whether any pipe still has a writer."""
        return bool(self._selector.get_map())

    def read(self, seconds: float) -> Iterator[bytes]:
        """Wait at most so long for data. Yield the complete lines of one read from each pipe that has data."""
        for key, _ in self._selector.select(seconds):
            data = os.read(key.fd, _READ_BYTES)
            if not data:
                self._selector.unregister(key.fd)
            yield from key.data.lines(data)
