"""One request and its response: ASGI's `receive` and `send` on one connection."""

import asyncio
import logging
from http import HTTPStatus
from typing import Protocol

from starlette.types import ASGIApp, Message, Scope

from apps.platform_api.http.body.arrived import arrived_body_extension
from apps.platform_api.http.disconnect import DisconnectSignal
from apps.platform_api.server.head import RequestHead
from apps.platform_api.server.incoming_body import IncomingBody
from apps.platform_api.server.refusal import Refusal, RequestRefusedError

HIGH_WATER_BYTES = 64 * 1024
"""Of a body that has arrived and that the application has not taken: beyond it the socket is not read."""
SKIPPED_BODY_BYTES = 64 * 1024
"""A body that the application did not read, and of which no more than this is to come, does not end the connection."""

LARGE_BYTES = 64 * 1024

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_WITHOUT_BODY = frozenset({204, 304})
_log = logging.getLogger("uvicorn.error")


class ConnectionHandle(Protocol):
    """What a request needs of its connection."""

    closing: bool
    """The connection takes no further request."""

    def write(self, data: bytes) -> None:
        """Send bytes behind all that were sent before."""

    async def drain(self) -> None:
        """Wait until the client has taken enough for more to be sent."""

    def resume_reading(self) -> None:
        """Resume reading from the socket."""

    def pause_reading(self) -> None:
        """Leave what the client sends in the socket."""

    def common_headers(self) -> bytes:
        """The header lines of every response."""
        ...

    def response_complete(self, *, keep_alive: bool) -> None:
        """Begin the next request, or end the connection."""

    def abort(self) -> None:
        """End the connection at once."""


class Exchange:
    """Reads one request's body and writes one response."""

    def __init__(self, connection: ConnectionHandle, head: RequestHead, body: IncomingBody | None) -> None:
        self._connection = connection
        self._body = body
        self._parts: list[bytes] = []
        self._buffered = 0
        self._body_complete = body is None
        self._delivered = False
        self._broken: Refusal | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._awaits_continue = head.expects_continue and body is not None
        self._http10 = head.version == "1.0"
        self._is_head = head.method == "HEAD"
        self._pending_head: bytes | None = None
        self._framing: int | None = None
        """Bytes of the response's body that are still due; None: it is sent in chunks, or until the connection ends."""
        self._chunked = False
        self.keep_alive = head.keep_alive
        self.started = False
        self.complete = False
        self.disconnected = False
        self.disconnect_signal = DisconnectSignal(connection.resume_reading)

    def extensions(self) -> dict[str, object]:
        """Return the `extensions` of the request's scope."""
        return {**self.disconnect_signal.extension(), **arrived_body_extension(self.receive_arrived)}

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Let the application handle the request. An incomplete response ends the connection."""
        try:
            await app(scope, self.receive, self.send)
        except Exception:  # noqa: BLE001 - the application renders its own errors; this is a bug in its outermost layer
            _log.exception("asgi_application_failed")
        finally:
            if not self.complete and not self.disconnected:
                self._connection.abort()

    # Called by the connection.

    def feed(self, content: bytes, *, complete: bool) -> None:
        """Take over a part of the body that has arrived."""
        self._body_complete = complete
        if content:
            self._awaits_continue = False
            if self.complete:
                return
            self._parts.append(content)
            self._buffered += len(content)
            if self._buffered > HIGH_WATER_BYTES and not complete:
                self._connection.pause_reading()
        self._wake()

    def break_body(self, refusal: Refusal) -> None:
        """The body is malformed; the application hears of it when it reads on."""
        self.keep_alive = False
        self._broken = refusal
        self._wake()

    def disconnect(self) -> None:
        """Note that the connection is lost."""
        self.disconnected = True
        self._wake()
        self.disconnect_signal.set()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # ASGI.

    async def receive(self) -> Message:
        """See ASGI. Raises RequestRefusedError where the body is malformed."""
        if self._awaits_continue and not self.started:
            self._awaits_continue = False
            self._connection.write(CONTINUE)
        while not (self.disconnected or self.complete):
            if (message := self.receive_arrived()) is not None:
                return message
            self._connection.resume_reading()
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return {"type": "http.disconnect"}

    def receive_arrived(self) -> Message | None:
        """Return what has arrived of the body, as `receive`; None if it has to be waited for."""
        if self.disconnected or self.complete:
            return None
        if self._broken is not None:
            raise RequestRefusedError(self._broken)
        if not self._parts and (self._delivered or not self._body_complete):
            return None
        content = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts, self._buffered = [], 0
        self._delivered = self._body_complete
        return {"type": "http.request", "body": content, "more_body": not self._body_complete}

    async def send(self, message: Message) -> None:
        """See ASGI. The head leaves together with the first part of the body."""
        await self._connection.drain()
        if self.disconnected or self.complete:
            return
        if message["type"] == "http.response.start":
            self._start(message)
        elif message["type"] == "http.response.body":
            self._send_body(message.get("body", b""), more=message.get("more_body", False))

    def _start(self, message: Message) -> None:
        if self.started:
            raise RuntimeError("the response has been started already")
        self.started = True
        status: int = message["status"]
        lines = [_status_line(status), self._connection.common_headers()]
        length: int | None = None
        says_close = False
        count = 0
        for name, value in message.get("headers", ()):
            if name == b"content-length":
                length = int(value)
            elif name == b"connection" and value.lower() == b"close":
                says_close = True
            lines += (name, b": ", value, b"\r\n")
            count += 1
        if says_close or self._connection.closing or not self._can_be_skipped():
            self.keep_alive = False
        if not self.keep_alive and not says_close:
            lines.append(b"connection: close\r\n")
            count += 1
        if self._is_head or status in _WITHOUT_BODY:
            self._framing = 0
        elif length is not None:
            self._framing = length
        elif self._http10:
            self.keep_alive = False  # the connection's end is the body's
        else:
            self._chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
            count += 1
        lines.append(b"\r\n")
        head = b"".join(lines)
        # A line end within a value would begin another header, or another response.
        expected = count + self._connection.common_headers().count(b"\n") + 2
        if head.count(b"\n") != expected or head.count(b"\r") != expected or b"\0" in head:
            self.started = False
            raise RuntimeError("a response header holds a control character")
        self._pending_head = head

    def _can_be_skipped(self) -> bool:
        """Return whether the connection can be kept although the rest of the request's body is not read."""
        if self._body_complete or self._body is None:
            return True
        remaining = self._body.remaining()
        # A client that waits for 100 Continue may send the body, or leave it out and send its next request.
        return not self._awaits_continue and remaining is not None and remaining <= SKIPPED_BODY_BYTES

    def _send_body(self, body: bytes, *, more: bool) -> None:
        if not self.started:
            raise RuntimeError("the response has not been started")
        head, self._pending_head = self._pending_head or b"", None
        if self._is_head or self._framing is not None:
            if self._is_head:
                body = b""
            elif self._framing is not None:
                self._framing -= len(body)
                if self._framing < 0 or (self._framing and not more):
                    raise RuntimeError("the response's body is not as long as its content-length says")
            self._write(head, body)
        elif self._chunked:
            ending = b"" if more else b"0\r\n\r\n"
            if len(body) > LARGE_BYTES:
                self._write(b"%b%x\r\n" % (head, len(body)), body, b"\r\n" + ending)
            else:
                data = b"%b%x\r\n%b\r\n%b" % (head, len(body), body, ending) if body else head + ending
                self._write(data)
        else:
            self._write(head, body)
        if not more:
            self.complete = True
            self._parts = []
            self._wake()
            self._connection.response_complete(keep_alive=self.keep_alive)

    def _write(self, *parts: bytes) -> None:
        """Small parts leave as one; large ones are not copied for that."""
        if sum(map(len, parts)) <= LARGE_BYTES:
            parts = (b"".join(parts),)
        for part in parts:
            if part:
                self._connection.write(part)


def _status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
