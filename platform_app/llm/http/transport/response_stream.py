"""One request's response while it arrives."""

import asyncio
from copy import copy
from typing import Protocol

from platform_app.llm.http.transport.errors import ConnectionLost

HIGH_WATER = 256 * 1024
"""About how many unread bytes are buffered at most. Beyond it the connection is not read, so that the sender slows
down."""

Headers = dict[bytes, bytes]
"""The names are in lower case. If a header is repeated, the last value is used."""


class ConnectionHandle(Protocol):
    """What a response stream needs of its connection."""

    def pause(self) -> None:
        """Stop reading from the socket."""
        ...

    def resume(self) -> None:
        """Resume reading from the socket."""
        ...

    def abort(self) -> None:
        """Close the connection at once: the rest of the response is not read."""
        ...


class ResponseStream:
    """The status, headers and body of one response. The caller reads it to the end or closes it. It has one reader at a
    time.

    The connection feeds it. The connection is back in the pool once the last byte has arrived, whether or not that byte
    was read.
    """

    __slots__ = (
        "_connection",
        "_error",
        "_loop",
        "_parts",
        "_paused",
        "_size",
        "_waiter",
        "complete",
        "headers",
        "status",
    )

    def __init__(self, connection: ConnectionHandle, loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0
        """0 until the head of the response has arrived."""
        self.headers: Headers = {}
        self.complete = False
        """Whether the last byte has arrived."""
        self._connection: ConnectionHandle | None = connection
        self._loop = loop
        self._parts: list[bytes] = []
        self._size = 0
        self._paused = False
        self._error: Exception | None = None
        """Copies of it are raised: its own traceback would refer to this object, a reference cycle."""
        self._waiter: asyncio.Future[None] | None = None

    async def head(self, until: float) -> None:
        """Wait for status and headers.

        Args:
            until: the loop's time at which waiting ends.

        Raises:
            TransportError: the request failed first.
            TimeoutError: it took too long.
        """
        while not self.status:
            if self._error is not None:
                raise copy(self._error)
            await self._wait(until)

    async def read(self, until: float) -> bytes:
        """Wait for more bytes of the body and return them; empty at the end. Raises like `head`, after all bytes that
        arrived before were read."""
        while not self._parts:
            if self._error is not None:
                raise copy(self._error)
            if self.complete:
                return b""
            await self._wait(until)
        parts, self._parts, self._size = self._parts, [], 0
        if self._paused:
            self._paused = False
            if self._connection is not None:
                self._connection.resume()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Close the connection unless the response is complete. A waiting reader gets a ConnectionLost."""
        self._parts.clear()
        connection = self._connection
        if connection is not None:
            connection.abort()
            self.fail(ConnectionLost())

    # Called by the connection.

    def feed_head(self, status: int, headers: Headers) -> None:
        """Take the status and headers."""
        self.headers = headers
        self.status = status
        self._wake()

    def feed_body(self, data: bytes) -> None:
        """Take bytes of the body."""
        self._parts.append(data)
        self._size += len(data)
        if self._size > HIGH_WATER and not self._paused and self._connection is not None:
            self._paused = True
            self._connection.pause()
        self._wake()

    def feed_end(self) -> None:
        """Complete the response; its connection is free for another request."""
        self.complete = True
        self._connection = None
        self._wake()

    def fail(self, error: Exception) -> None:
        """End the response with an error."""
        self._error = error
        self._connection = None
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    async def _wait(self, until: float) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiter = waiter
        timer = self._loop.call_at(until, _expire, waiter)
        try:
            await waiter
        finally:
            timer.cancel()


def _expire(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())
