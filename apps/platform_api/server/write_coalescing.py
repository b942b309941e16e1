"""Join the writes of one event-loop iteration into one write to the transport.

uvloop sends each write at once. Without this, the end of a stream would be two system calls, and wake its reader twice.
"""

import asyncio

MAX_BUFFERED_BYTES = 64 * 1024
"""Maximum bytes buffered per event-loop iteration."""


class CoalescingWriter:
    """Writes to a transport at the end of the event loop's iteration."""

    __slots__ = ("_ended", "_loop", "_parts", "_size", "_transport", "written")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []
        self._size = 0
        self._ended = False
        self.written = 0
        """The bytes that were written to the transport so far."""

    @property
    def waiting(self) -> int:
        """The bytes that wait for the end of the iteration."""
        return self._size

    def write(self, data: bytes) -> None:
        """Send these bytes before the next iteration ends, in the order of the writes. After `end` they are dropped."""
        if self._ended:
            return
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size > MAX_BUFFERED_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the buffered bytes to the transport, unless the connection is closing."""
        parts, size, self._parts, self._size = self._parts, self._size, [], 0
        if not parts or self._transport.is_closing():
            return
        if len(parts) > 1 and max(map(len, parts)) <= MAX_BUFFERED_BYTES:
            parts = [b"".join(parts)]  # joining a large part would use its memory twice
        for data in parts:
            self._transport.write(data)
        self.written += size

    def end(self) -> None:
        """Send the buffered bytes and close this half of the connection. The client may still send."""
        self.flush()
        if not self._ended and not self._transport.is_closing():
            self._ended = True
            self._transport.write_eof()
