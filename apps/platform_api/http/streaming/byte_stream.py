"""An answer that is sent as it comes, while the client is there and takes it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from apps.platform_api.http.disconnect import ClientDisconnected, cancel_on_disconnect
from apps.platform_api.http.streaming.stream_head import StreamHead

SEND_TIMEOUT_SECONDS = 30.0
"""A client that takes nothing for this long is gone, whatever its socket says."""


class ByteChunks(Protocol):
    """What a stream is made of, one after the other; an async generator is one."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    def __anext__(self) -> Awaitable[bytes]: ...

    async def aclose(self) -> None:
        """End it, whether it is complete or not."""
        ...


async def open_byte_stream(pieces: AsyncGenerator[bytes, None], receive: Receive, content_type: bytes) -> "ByteStream":
    """The answer that sends these pieces. Waits for the first one, so that an early failure keeps its status.

    Raises:
        ClientDisconnected: the client left before the first piece.
    """
    try:
        first = await cancel_on_disconnect(receive, anext(pieces))
    except BaseException:
        await pieces.aclose()
        raise
    return ByteStream(first, pieces, content_type)


def stream_headers(content_type: bytes) -> list[tuple[bytes, bytes]]:
    """The headers of every stream: nothing in between is to keep, change or collect it."""
    return [
        (b"content-type", content_type),
        (b"cache-control", b"no-cache, no-store, no-transform"),
        (b"x-accel-buffering", b"no"),  # nginx would hold small pieces back
    ]


class ByteStream(Response):
    """ByteChunks as they come. With a `head`, which may be sent already, comments come through silent times.

    A slow client slows the source down: the next piece is asked for when the last one was taken. Until it is sent,
    `pieces` may be replaced by what passes them on.
    """

    def __init__(self, first: bytes, pieces: ByteChunks, content_type: bytes, head: StreamHead | None = None) -> None:
        self.status_code = 200
        self.background = None
        self.raw_headers = stream_headers(content_type)
        self.first = first
        self.pieces = pieces
        self._head = head

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything; ends by ClientDisconnected when the client leaves first, or takes nothing any more."""
        head = self._head or StreamHead(send, self.raw_headers, b"", 0)
        head.watch()
        try:
            async with aclosing(self.pieces):
                await cancel_on_disconnect(receive, self._send_all(head))
        finally:
            head.close()

    async def _send_all(self, head: StreamHead) -> None:
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(SEND_TIMEOUT_SECONDS)
        try:
            async with limit:
                await head.start()
                await head.send_body(self.first)
                limit.reschedule(None)
                async for data in self.pieces:
                    limit.reschedule(loop.time() + SEND_TIMEOUT_SECONDS)
                    await head.send_body(data)
                    limit.reschedule(None)
                limit.reschedule(loop.time() + SEND_TIMEOUT_SECONDS)
                await head.send_body(b"", more=False)
        except TimeoutError:
            if limit.expired():
                raise ClientDisconnected from None
            raise
