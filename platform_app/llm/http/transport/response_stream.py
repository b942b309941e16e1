"""One request's answer while it arrives."""

import asyncio
from typing import Protocol

from platform_app.llm.http.transport.errors import ConnectionLost

HIGH_WATER = 256 * 1024
"""Bytes that wait for their reader at most, about: then the connection is not read from, and the sender slows down."""

Headers = dict[bytes, bytes]
"""Names in lower case; of several headers of one name the last."""


class ConnectionHandle(Protocol):
    """The connection, as an response sees it."""

    def pause(self) -> None:
        """Read nothing more for now."""
        ...

    def resume(self) -> None:
        """Read on."""
        ...

    def abort(self) -> None:
        """Nobody wants the rest: end the connection at once."""
        ...


class ResponseStream:
    """Whoever gets one reads it to its end or closes it. One reader at a time.

    The connection feeds it; it is in the pool again once the last byte arrived, whether or not that was read.
    """

    __slots__ = ("_error", "_line", "_loop", "_parts", "_paused", "_size", "_waiter", "complete", "headers", "status")

    def __init__(self, line: ConnectionHandle, loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0
        """0 until the head of the answer arrived."""
        self.headers: Headers = {}
        self.complete = False
        """The last byte arrived."""
        self._line: ConnectionHandle | None = line
        self._loop = loop
        self._parts: list[bytes] = []
        self._size = 0
        self._paused = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def head(self, until: float) -> None:
        """Waits for status and headers.

        Args:
            until: the loop's time at which waiting ends.

        Raises:
            TransportError: the response failed first.
            TimeoutError: it took too long.
        """
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._wait(until)

    async def read(self, until: float) -> bytes:
        """What arrived of the body since the last call, waiting for it; empty at the end. Raises like `head`, once
        everything that arrived before is read."""
        while not self._parts:
            if self._error is not None:
                raise self._error
            if self.complete:
                return b""
            await self._wait(until)
        parts, self._parts, self._size = self._parts, [], 0
        if self._paused:
            self._paused = False
            if self._line is not None:
                self._line.resume()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Ends the connection unless the answer is complete. A reader that waits gets a ConnectionLost."""
        self._parts.clear()
        line = self._line
        if line is not None:
            line.abort()
            self.fail(ConnectionLost())

    # What the connection tells.

    def began(self, status: int, headers: Headers) -> None:
        """The head is there."""
        self.headers = headers
        self.status = status
        self._wake()

    def arrived(self, piece: bytes) -> None:
        """A piece of the body is there."""
        self._parts.append(piece)
        self._size += len(piece)
        if self._size > HIGH_WATER and not self._paused and self._line is not None:
            self._paused = True
            self._line.pause()
        self._wake()

    def ended(self) -> None:
        """The last byte arrived; the connection is free."""
        self.complete = True
        self._line = None
        self._wake()

    def fail(self, error: Exception) -> None:
        """There is no more to come."""
        self._error = error
        self._line = None
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
