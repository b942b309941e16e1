"""Server-sent events to the client: events in, bytes out, the upstream closed in `finally`."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from apps.platform_api.disconnect import ClientDisconnected, while_connected

KEEP_ALIVE_SECONDS = 15.0
SEND_TIMEOUT_SECONDS = 30.0
"""A client that takes nothing for this long is gone, whatever its socket says."""

_KEEP_ALIVE = b": keep-alive\n\n"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx would hold small events back
]


def event(name: str, data: Mapping[str, object]) -> bytes:
    """One event; JSON has no raw line feeds, so the data is one line."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(data))


async def open_event_stream(events: AsyncGenerator[bytes, None], receive: Receive) -> "EventStream":
    """The answer that sends these events. Waits for the first one, so that an early failure keeps its status.

    Raises:
        ClientDisconnected: the client left before the first event.
    """
    try:
        first = await while_connected(receive, anext(events))
    except BaseException:
        await events.aclose()
        raise
    return EventStream(first, events)


class EventStream(Response):
    """An answer that sends events as they come, with a comment line through silent times.

    A slow client slows the upstream down: the next event is asked for when the last one was taken.
    """

    def __init__(self, first: bytes, events: AsyncGenerator[bytes, None]) -> None:
        self.status_code = 200
        self.background = None
        self.raw_headers = list(_HEADERS)
        self._first = first
        self._events = events
        self._last_sent = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything; ends by ClientDisconnected when the client leaves first, or takes nothing any more."""
        pulse = asyncio.create_task(self._pulse(send))
        try:
            async with aclosing(self._events):
                await while_connected(receive, self._send_all(send))
        finally:
            pulse.cancel()

    async def _send_all(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(SEND_TIMEOUT_SECONDS)
        try:
            async with limit:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await send({"type": "http.response.body", "body": self._first, "more_body": True})
                limit.reschedule(None)
                async for data in self._events:
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
                await send({"type": "http.response.body", "body": _KEEP_ALIVE, "more_body": True})
                self._last_sent = loop.time()
