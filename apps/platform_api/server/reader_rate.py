"""How fast the client of one connection reads its responses."""

import asyncio

from apps.platform_api.server.limits import ServerLimits
from apps.platform_api.server.write_coalescing import CoalescingWriter

STANDS_STILL_SECONDS = 1.0


class ReaderRate:
    """Compares what was written with what the client has received. Times are those of `Connections.now`."""

    __slots__ = ("_limits", "_moved_at", "_seen", "_taken", "_taken_at", "_transport", "_writer")

    def __init__(
        self, transport: asyncio.Transport, writer: CoalescingWriter, limits: ServerLimits, now: float
    ) -> None:
        self._transport = transport
        self._writer = writer
        self._limits = limits
        self._taken, self._taken_at = 0, now
        """The bytes that the client had received when its rate was last measured, and the time of that."""
        self._seen, self._moved_at = 0, now
        """The bytes that the client had received at the last check, and the time of their last change, or of the last
        check at which it had received all."""

    def unsent(self) -> int:
        """Return the number of response bytes that the client has not received."""
        return self._writer.waiting + self._transport.get_write_buffer_size()

    def stands_still(self, now: float) -> bool:
        """Return whether the client has received nothing for STANDS_STILL_SECONDS."""
        return self._received() == self._seen and now - self._moved_at >= STANDS_STILL_SECONDS

    def stalls(self, now: float) -> bool:
        """Return whether the client reads too slowly. The rate is measured every `write_seconds`."""
        taken = self._received()
        if taken != self._seen:
            self._seen, self._moved_at = taken, now
        if taken == self._writer.written:
            self._taken, self._taken_at, self._moved_at = taken, now, now
            return False
        elapsed = now - self._taken_at
        if elapsed < self._limits.write_seconds:
            return False
        slow = taken - self._taken < self._limits.data_rate * elapsed
        self._taken, self._taken_at = taken, now
        return slow

    def _received(self) -> int:
        return self._writer.written - self._transport.get_write_buffer_size()
