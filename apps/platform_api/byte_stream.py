"""An answer that is sent as it comes, while the client is there and takes it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from apps.platform_api.disconnect import ClientDisconnected, while_connected

KEEP_ALIVE_SECONDS = 15.0
SEND_TIMEOUT_SECONDS = 30.0
"""A client that takes nothing for this long is gone, whatever its socket says."""


class Pieces(Protocol):
    """What a stream is made of, one after the other; an async generator is one."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    def __anext__(self) -> Awaitable[bytes]: ...

    async def aclose(self) -> None:
        """End it, whether it is complete or not."""
        ...


async def open_byte_stream(
    pieces: AsyncGenerator[bytes, None], receive: Receive, content_type: bytes, keep_alive: bytes = b""
) -> "ByteStream":
    """The answer that sends these pieces. Waits for the first one, so that an early failure keeps its status.

    Raises:
        ClientDisconnected: the client left before the first piece.
    """
    try:
        first = await while_connected(receive, anext(pieces))
    except BaseException:
        await pieces.aclose()
        raise
    return ByteStream(first, pieces, content_type, keep_alive)


class ByteStream(Response):
    """Pieces as they come; `keep_alive` through silent times where the format has something that means nothing.

    A slow client slows the source down: the next piece is asked for when the last one was taken. Until it is sent,
    `pieces` may be replaced by what passes them on.
    """

    def __init__(self, first: bytes, pieces: Pieces, content_type: bytes, keep_alive: bytes = b"") -> None:
        self.status_code = 200
        self.background = None
        self.raw_headers = [
            (b"content-type", content_type),
            (b"cache-control", b"no-cache, no-store, no-transform"),
            (b"x-accel-buffering", b"no"),  # nginx would hold small pieces back
        ]
        self.first = first
        self.pieces = pieces
        self._keep_alive = keep_alive
        self._last_sent = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything; ends by ClientDisconnected when the client leaves first, or takes nothing any more."""
        pulse = asyncio.create_task(self._pulse(send)) if self._keep_alive else None
        try:
            async with aclosing(self.pieces):
                await while_connected(receive, self._send_all(send))
        finally:
            if pulse is not None:
                pulse.cancel()

    async def _send_all(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(SEND_TIMEOUT_SECONDS)
        try:
            async with limit:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await send({"type": "http.response.body", "body": self.first, "more_body": True})
                limit.reschedule(None)
                async for data in self.pieces:
                    limit.reschedule(loop.time() + SEND_TIMEOUT_SECONDS)
                    await send({"type": "http.response.body", "body": data, "more_body": True})
                    limit.reschedule(None)
                    self._last_sent = loop.time()
                limit.reschedule(loop.time() + SEND_TIMEOUT_SECONDS)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            if limit.expired():
                raise ClientDisconnected from None
            raise

    async def _pulse(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        self._last_sent = loop.time()
        while True:
            await asyncio.sleep(max(0.05, self._last_sent + KEEP_ALIVE_SECONDS - loop.time()))
            if loop.time() - self._last_sent >= KEEP_ALIVE_SECONDS:
                await send({"type": "http.response.body", "body": self._keep_alive, "more_body": True})
                self._last_sent = loop.time()
