"""The head of a streamed response, and what is sent while there is nothing else to send.

Hops between the gateway and its clients cut connections on which no byte comes for some time, often 60 s. So a stream
whose first event takes long gets its head early, with a comment, and further comments through every silence. Until its
first event is there the provider's call can still be retried or fall back; only its status is decided (docs/adr/0026).
"""

import asyncio
from collections.abc import Sequence

from starlette.types import Send

from platform_app.observability import metrics

Headers = Sequence[tuple[bytes, bytes]]


class StreamHead:
    """Sent once: by the stream with its first event, or by the timer. Where `watch` was called, `unwatch` must be."""

    __slots__ = ("_beat", "_comment", "_headers", "_last_sent", "_loop", "_seconds", "_send", "_timer", "started")

    def __init__(self, send: Send, headers: Headers, comment: bytes, seconds: float) -> None:
        """`comment`: what means nothing in the stream's format; empty where it has nothing of the kind."""
        self.started = False
        """The head is sent, or about to be: nothing can change the status any more."""
        self._send = send
        self._headers = headers
        self._comment = comment
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._last_sent = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._beat: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """From now on send a comment after each `seconds` in which nothing else is sent, with the head before the first
        one if it is not sent yet."""
        if self._comment and self._timer is None:
            self._last_sent = self._loop.time()
            self._timer = self._loop.call_at(self._last_sent + self._seconds, self._tick)

    def unwatch(self) -> None:
        """Send no further comment."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """The stream is over: also a comment that is being sent is given up."""
        self.unwatch()
        if self._beat is not None:
            self._beat.cancel()

    async def start(self) -> None:
        """Send the head, or wait until the timer has."""
        if self._beat is not None:
            await self._beat
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
            if self._beat is None or self._beat.done():
                early, self.started = not self.started, True
                self._beat = self._loop.create_task(self._send_comment(early))
            self._last_sent, due = now, now + self._seconds
        self._timer = self._loop.call_at(due, self._tick)

    async def _send_comment(self, early: bool) -> None:
        if early:
            metrics.STREAM_EARLY_HEADS.inc()
            await self._send_head()
        await self.send_body(self._comment)

    async def _send_head(self) -> None:
        await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})
