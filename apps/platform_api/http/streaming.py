"""Streamed responses: server-sent events, and bytes of any other format.

Specification of the events: https://html.spec.whatwg.org/multipage/server-sent-events.html.

Proxies between the gateway and its clients close a connection that is idle for some time, often 60 s. An event stream
therefore sends a comment line after each idle interval. If the first event takes longer than that, the head is sent
early, with a comment. The provider's call can still be retried or fall back until the first event; only the status is
decided by then (docs/adr/0026).
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from apps.platform_api.http.disconnect import (
    ClientDisconnected,
    DisconnectSignal,
    cancel_on_disconnect,
    disconnect_signal,
)
from apps.platform_api.http.request_state import send_timeout_of
from platform_app.errors import PlatformError
from platform_app.llm.codecs import lenient_json
from platform_app.observability import metrics

SEND_TIMEOUT_SECONDS = 30.0
"""A client that reads nothing for this long counts as disconnected, whatever the state of its socket. The default of
PLATFORM_WRITE_TIMEOUT_SECONDS."""
EVENT_STREAM = b"text/event-stream; charset=utf-8"
KEEP_ALIVE = b": keep-alive\n"
"""One comment line. With an empty line after it, OpenAI's Go client before v3.44 would read an event without data, and
fail."""

Headers = Sequence[tuple[bytes, bytes]]
OpenEvents = Callable[[], Awaitable[AsyncGenerator[bytes, None]]]
"""Returns the events of a stream. A failure before the first event is raised, here or by the generator."""
ErrorEvent = Callable[[PlatformError], bytes]
"""Returns the event that ends a failed stream."""


class ByteChunks(Protocol):
    """The chunks of a response body, in order. An async generator is one."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    def __anext__(self) -> Awaitable[bytes]: ...

    async def aclose(self) -> None:
        """End the stream, complete or not."""
        ...


def event(name: str, data: Mapping[str, object]) -> bytes:
    """Return one event. JSON has no raw line feeds, so the data is one line. Raises ValueError for data that is not
    JSON."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), lenient_json.dumps(data))


async def open_event_stream(
    open_events: OpenEvents, error_event: ErrorEvent, client: DisconnectSignal, send: Send, seconds: float
) -> "ByteStream":
    """Return the response that sends the events, with a comment line after each `seconds` without an event.

    Wait for the first event, so that an early failure keeps its status. If that takes longer than `seconds`, send the
    head and a comment meanwhile; a failure then becomes an event.

    Raises:
        PlatformError: there is no first event, and the head was not sent.
        ClientDisconnected: the client disconnected before the first event.
    """
    head = StreamHead(send, stream_headers(EVENT_STREAM), KEEP_ALIVE, seconds)
    events: AsyncGenerator[bytes, None] | None = None

    async def first_event() -> bytes:
        nonlocal events
        events = await open_events()
        return await anext(events)

    head.start_heartbeat()
    try:
        first = await cancel_on_disconnect(client, first_event())
    except BaseException as error:
        if events is not None:
            await events.aclose()
        if not (head.started and isinstance(error, PlatformError)):
            head.close()
            raise
        return ByteStream(error_event(error), _no_chunks(), EVENT_STREAM, head)
    finally:
        head.stop_heartbeat()
    assert events is not None  # noqa: S101 - for mypy: the first event was read from it
    return ByteStream(first, events, EVENT_STREAM, head)


async def open_byte_stream(
    chunks: AsyncGenerator[bytes, None], client: DisconnectSignal, content_type: bytes
) -> "ByteStream":
    """Return the response that sends these chunks. Wait for the first one, so that an early failure keeps its status.

    Raises:
        ClientDisconnected: the client disconnected before the first chunk.
    """
    try:
        first = await cancel_on_disconnect(client, anext(chunks))
    except BaseException:
        await chunks.aclose()
        raise
    return ByteStream(first, chunks, content_type)


def stream_headers(content_type: bytes) -> list[tuple[bytes, bytes]]:
    """Return the headers of every stream: no cache or proxy may store, change or buffer it."""
    return [
        (b"content-type", content_type),
        (b"cache-control", b"no-cache, no-store, no-transform"),
        (b"x-accel-buffering", b"no"),  # without it nginx buffers small chunks
    ]


class StreamHead:
    """The head of a streamed response, and the heartbeat while the stream is idle.

    The head is sent once: with the first event, or with the first heartbeat. After `start_heartbeat` call
    `stop_heartbeat` or `close`.
    """

    __slots__ = ("_comment", "_headers", "_heartbeat", "_last_sent", "_loop", "_seconds", "_send", "_timer", "started")

    def __init__(self, send: Send, headers: Headers, comment: bytes, seconds: float) -> None:
        """
        Args:
            send: ASGI's `send`.
            headers: the response headers.
            comment: the heartbeat, which the stream's format ignores; empty if the format has no comments.
            seconds: the longest idle time.
        """
        self.started = False
        """The head was sent, or is about to be: the status cannot change any more."""
        self._send = send
        self._headers = headers
        self._comment = comment
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._last_sent = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._heartbeat: asyncio.Task[None] | None = None

    def start_heartbeat(self) -> None:
        """From now on send a comment after each idle interval; before the first comment send the head, if it was not
        sent yet."""
        if self._comment and self._timer is None:
            self._last_sent = self._loop.time()
            self._timer = self._loop.call_at(self._last_sent + self._seconds, self._tick)

    def stop_heartbeat(self) -> None:
        """Start no further comment."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """End the heartbeat, and cancel a comment that is being sent."""
        self.stop_heartbeat()
        if self._heartbeat is not None:
            self._heartbeat.cancel()

    async def start(self) -> None:
        """Send the head, or wait until the heartbeat has sent it."""
        if self._heartbeat is not None:
            await self._heartbeat
        if not self.started:
            self.started = True
            await self._send_head()

    async def send_body(self, body: bytes, *, more: bool = True) -> None:
        """Send a part of the body."""
        await self._send({"type": "http.response.body", "body": body, "more_body": more})
        self._last_sent = self._loop.time()

    def _tick(self) -> None:
        now = self._loop.time()
        due = self._last_sent + self._seconds
        if now >= due:
            if self._heartbeat is None or self._heartbeat.done():
                early, self.started = not self.started, True
                self._heartbeat = self._loop.create_task(self._send_comment(early))
            self._last_sent, due = now, now + self._seconds
        self._timer = self._loop.call_at(due, self._tick)

    async def _send_comment(self, early: bool) -> None:
        if early:
            metrics.STREAM_EARLY_HEADS.inc()
            await self._send_head()
        await self.send_body(self._comment)

    async def _send_head(self) -> None:
        await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})


class ByteStream(Response):
    """Sends chunks as they arrive; with a `head` from `open_event_stream`, which may be sent already, also a heartbeat.

    A slow client slows the source down: the next chunk is read when the previous one was sent. Until the response is
    sent, `chunks` may be replaced by a wrapper.
    """

    def __init__(self, first: bytes, chunks: ByteChunks, content_type: bytes, head: StreamHead | None = None) -> None:
        self.status_code = 200
        self.background = None
        self.raw_headers = stream_headers(content_type)
        self.first = first
        self.chunks = chunks
        self._head = head

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything. Raises ClientDisconnected if the client disconnects before the end, or reads nothing for
        PLATFORM_WRITE_TIMEOUT_SECONDS."""
        head = self._head or StreamHead(send, self.raw_headers, b"", 0)
        head.start_heartbeat()
        metrics.STREAMS_OPEN.inc()
        try:
            async with aclosing(self.chunks):
                await cancel_on_disconnect(
                    disconnect_signal(scope, receive),
                    self._send_all(head, send_timeout_of(scope, SEND_TIMEOUT_SECONDS)),
                )
        finally:
            metrics.STREAMS_OPEN.dec()
            head.close()

    async def _send_all(self, head: StreamHead, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                await head.start()
                await head.send_body(self.first)
                limit.reschedule(None)
                async for chunk in self.chunks:
                    limit.reschedule(loop.time() + seconds)
                    await head.send_body(chunk)
                    limit.reschedule(None)
                limit.reschedule(loop.time() + seconds)
                await head.send_body(b"", more=False)
        except TimeoutError:
            if limit.expired():
                raise ClientDisconnected from None
            raise


async def _no_chunks() -> AsyncGenerator[bytes, None]:
    """Yield nothing: the stream ends with its first event."""
    chunks: tuple[bytes, ...] = ()
    for chunk in chunks:
        yield chunk
