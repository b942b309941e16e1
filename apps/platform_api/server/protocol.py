"""One client connection: read its requests in order, pass each to the application, and enforce the limits.

uvicorn creates one `ServerProtocol` for each connection, and calls `shutdown` of all of them when the process stops.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Scope
from uvicorn.config import Config
from uvicorn.server import ServerState

from apps.platform_api.server.connections import Connections
from apps.platform_api.server.exchange import LARGE_BYTES, Exchange
from apps.platform_api.server.head import HEAD_END, RequestHead, head_too_large, parse_head, refuse_early
from apps.platform_api.server.incoming_body import ChunkedBody, IncomingBody, LengthBody
from apps.platform_api.server.limits import ServerLimits
from apps.platform_api.server.reader_rate import ReaderRate
from apps.platform_api.server.refusal import Reason, Refusal, RequestRefusedError, refusal_response
from apps.platform_api.server.write_coalescing import CoalescingWriter
from platform_app.observability.networks import unmapped

_NO_TIME = float("inf")


class ServerProtocol(asyncio.Protocol):
    """A client's connection. It is in one of four states: it waits for a head, reads a request's body, waits for the
    response of the application, or lingers. A lingering connection reads and discards data until it closes."""

    def __init__(
        self, limits: ServerLimits, connections: Connections, *, config: Config, server_state: ServerState,
        app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:  # fmt: skip
        """uvicorn passes the keyword arguments."""
        self._limits = limits
        self._connections = connections
        self._server = server_state
        self._app: ASGIApp = config.loaded_app
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._writer: CoalescingWriter
        self._rate: ReaderRate
        self._buffer = bytearray()
        self._searched = 0
        """The bytes at the start of the buffer that were searched for the end of a head."""
        self._held = 0
        """The bytes of the buffer that were noted as held."""
        self._may_skip_line = True
        self._exchange: Exchange | None = None
        self._body: IncomingBody | None = None
        """The body of the current request; None once it has arrived completely."""
        self._had_request = False
        self._reading_paused = False
        self._writable: asyncio.Future[None] | None = None
        self._dropped = 0
        self._drops = False
        """Whether all further input is discarded."""
        self._closes_at = _NO_TIME
        self._waits_until = _NO_TIME
        """When the timeout for a head expires."""
        self.closing = False
        self.address = "unix"
        self._addresses: tuple[Any, Any] = (None, None)

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of a TCP connection
        """See asyncio.BaseProtocol."""
        self._transport = transport
        self._writer = CoalescingWriter(transport, self._loop)
        self._rate = ReaderRate(transport, self._writer, self._limits, self._connections.now)
        peer, here = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if isinstance(peer, tuple):
            self.address = unmapped(str(peer[0]))
            self._addresses = (self.address, peer[1]), (unmapped(str(here[0])), here[1])
        if (refusal := self._connections.admit(self)) is not None:
            self._refuse(refusal)
            self._closes_at = 0.0
            self._close()
            return
        self._server.connections.add(self)  # type: ignore[arg-type]  # uvicorn's own classes have no common base
        self._waits_until = self._connections.now + self._limits.head_seconds
        self._connections.set_idle(self, idle=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.BaseProtocol."""
        self._connections.remove(self)
        self._server.connections.discard(self)
        self._drops = True
        self._buffer = bytearray()
        self.resume_writing()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.disconnect()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._drops:
            self._drop(data)
            return
        self._buffer += data
        try:
            self._advance()
        except RequestRefusedError as error:
            self._refuse(error.refusal)
        if self._buffer or self._held:
            self._note_held()

    def eof_received(self) -> None:
        """Treat a client that closed its half of the connection as disconnected. The server cannot distinguish the two,
        and a provider call without a client should end."""

    def pause_writing(self) -> None:
        """See asyncio.BaseProtocol. The transport calls this when the client reads too slowly."""
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """See asyncio.BaseProtocol."""
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def shutdown(self) -> None:
        """Close now, or after the current response. uvicorn calls this when the process stops."""
        self.closing = True
        if self._exchange is None:
            self._close()
        else:
            self._exchange.keep_alive = False

    def awaits_first_request(self) -> bool:
        """Return whether the connection is open and has had no request."""
        return not self._had_request and not self._drops and not self._transport.is_closing()

    # Reading.

    def _advance(self) -> None:
        """Process the buffered data: the rest of a body, or the next requests."""
        while self._buffer and not self._drops:
            if self._body is not None:
                self._take_body(self._body)
                if self._body is not None:
                    return
            elif self._exchange is not None:
                if len(self._buffer) > self._limits.pipelined_bytes:
                    self._stop_reading_ahead(Reason.PIPELINE)
                return
            elif not self._begin_request():
                return

    def _note_held(self) -> None:
        self._held = len(self._buffer) if self._body is None else 0
        self._connections.hold(self, self._held)

    def refuse_held(self) -> None:
        """See connections.Connection."""
        if self._exchange is not None:
            self._stop_reading_ahead(Reason.HEADS_IN_FLIGHT)
            return
        message = "This instance holds too many incomplete requests. Send the whole head at once, or try again shortly."
        self._refuse(Refusal(503, "overloaded", Reason.HEADS_IN_FLIGHT, message))

    def _stop_reading_ahead(self, reason: Reason) -> None:
        """Drop the requests that were read ahead. The connection closes after the current response."""
        self._connections.count(reason, self.address)
        assert self._exchange is not None  # noqa: S101 - the callers checked it
        self._exchange.keep_alive = False
        self._drop_input()

    def _drop(self, data: bytes) -> None:
        """Discard data, up to a limit: then the connection ends, after the current response if there is one."""
        self._dropped += len(data)
        if self._dropped <= self._limits.linger_bytes:
            if len(data) > LARGE_BYTES:  # there may be more: uvloop would read megabytes before the loop runs on
                self.pause_reading()
                self._loop.call_soon(self.resume_reading)
        elif self._exchange is None:
            self._transport.abort()
        else:
            self.pause_reading()

    def _take_body(self, body: IncomingBody) -> None:
        content = body.take(self._buffer)
        if body.complete:
            self._body = None
        if self._exchange is not None:
            self._exchange.feed(content, complete=body.complete)
        elif body.complete:
            self._wait_for_head()

    def _begin_request(self) -> bool:
        """Read a head and start its request. Return False if the head is not complete yet."""
        buffer = self._buffer
        if self._may_skip_line and buffer.startswith(b"\r\n"):  # RFC 9112, section 2.2: ignore at least one
            self._may_skip_line = False
            del buffer[:2]
        if not buffer or (self._may_skip_line and buffer == b"\r"):  # a line feed may follow
            self._connections.set_idle(self, idle=True)
            return False
        end = buffer.find(HEAD_END, max(0, self._searched - 3))
        if end < 0:
            if len(buffer) > self._limits.head_bytes:
                raise head_too_large(self._limits.head_bytes)
            refuse_early(buffer, self._searched)
            if not self._searched and buffer:
                self._waits_until = self._connections.now + self._limits.head_seconds
                self._connections.set_idle(self, idle=False)
            self._searched = len(buffer)
            return False
        if end > self._limits.head_bytes:
            raise head_too_large(self._limits.head_bytes)
        head = parse_head(bytes(buffer[:end]), self._limits.header_count)
        del buffer[: end + len(HEAD_END)]
        self._searched, self._may_skip_line = 0, True
        self._waits_until = _NO_TIME
        self._connections.set_idle(self, idle=False)
        self._start(head)
        return True

    def _start(self, head: RequestHead) -> None:
        self._had_request = True
        body: IncomingBody | None = None
        if head.chunked:
            body = ChunkedBody(self._limits.trailer_bytes)
        elif head.content_length:
            body = LengthBody(head.content_length)
        self._body = body
        client, server = self._addresses
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": head.version,
            "server": server,
            "client": client,
            "scheme": "http",
            "root_path": "",
            "method": head.method,
            "path": head.path,
            "raw_path": head.raw_path,
            "query_string": head.query,
            "headers": head.headers,
            "state": self._app_state.copy(),
        }
        exchange = self._exchange = Exchange(self, head, body)
        scope["extensions"] = exchange.extensions()
        if self.closing:
            exchange.keep_alive = False
        task = self._loop.create_task(exchange.run(self._app, scope))
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    def _refuse(self, refusal: Refusal) -> None:
        """Respond to a malformed request and close the connection. If the body is malformed, the application writes the
        response."""
        self._connections.count(refusal.reason, self.address)
        self._drop_input()
        if self._exchange is not None:
            self._exchange.break_body(refusal)
            return
        self._writer.write(refusal_response(refusal, self.common_headers()))
        self._close()

    def _drop_input(self) -> None:
        self._drops = True
        self._buffer = bytearray()
        self._body = None
        if self._held:
            self._note_held()

    # ConnectionHandle, the interface for Exchange.

    def write(self, data: bytes) -> None:
        """See ConnectionHandle."""
        self._writer.write(data)

    async def drain(self) -> None:
        """See ConnectionHandle. `check` aborts the connection of a client that does not read, which ends the wait."""
        while self._writable is not None:
            await asyncio.shield(self._writable)

    def pause_reading(self) -> None:
        """See ConnectionHandle."""
        if not self._reading_paused and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """See ConnectionHandle."""
        if self._reading_paused and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()

    def common_headers(self) -> bytes:
        """See ConnectionHandle."""
        return self._connections.common_headers(self._server.default_headers)

    def response_complete(self, *, keep_alive: bool) -> None:
        """See ConnectionHandle."""
        self._server.total_requests += 1
        self._exchange = None
        if not keep_alive or self.closing or self._drops:
            self._close()
            return
        self.resume_reading()
        self._wait_for_head()
        if self._buffer:
            # In the next iteration: the handler that has just sent this response continues first.
            self._loop.call_soon(self.data_received, b"")

    def abort(self) -> None:
        """See ConnectionHandle."""
        self._writer.flush()
        self._transport.abort()

    def _wait_for_head(self) -> None:
        """Start the timeout for the next head, or for the rest of a body that the application did not read."""
        seconds = self._limits.idle_seconds if self._body is None else self._limits.head_seconds
        self._waits_until = self._connections.now + seconds
        self._connections.set_idle(self, idle=not self._buffer)  # it may hold the next request

    # Closing.

    def close_idle(self) -> None:
        """See connections.Connection."""
        self._writer.flush()
        self._transport.close()

    def _close(self) -> None:
        """Close after the written data is sent. If the client may still be sending, read and discard its data first:
        closing a connection with unread data resets it, and the client would not receive the response."""
        self._connections.set_idle(self, idle=False)
        if self._closes_at == _NO_TIME and (self._drops or self._body is not None):
            self._drop_input()
            self._writer.flush()
            self.resume_reading()
            self._closes_at = self._connections.now + self._limits.linger_seconds
            self._waits_until = _NO_TIME  # no head is read any more
            if not self._transport.is_closing():
                self._writer.end()
            return
        self._writer.flush()
        self._transport.close()

    def check(self, now: float) -> None:
        """See connections.Connection."""
        if self._transport.is_closing():
            if self._rate.stalls(now):
                self.end_slow_reader()
            return
        if now >= self._closes_at:
            self.end_slow_reader() if self._rate.stalls(now) else self._transport.close()
        elif self._exchange is None and now >= self._waits_until:
            self._end_wait()
        elif self._rate.stalls(now):
            self.end_slow_reader()

    def unsent(self) -> int:
        """See connections.Connection."""
        return self._rate.unsent()

    def stands_still(self, now: float) -> bool:
        """See connections.Connection."""
        return self._rate.stands_still(now)

    def end_slow_reader(self) -> None:
        """See connections.Connection."""
        self._connections.count(Reason.READER_SLOW, self.address)
        self._transport.abort()

    def _end_wait(self) -> None:
        """Close a connection whose timeout for a head expired."""
        if self._searched:
            self._refuse(Refusal(408, "request_timeout", Reason.HEAD_SLOW, "The head did not arrive in time."))
            return
        self._connections.count(Reason.UNREAD_BODY if self._body is not None else Reason.IDLE, self.address)
        self._connections.set_idle(self, idle=False)
        self._transport.close()


def protocol_factory(limits: ServerLimits, connections: Connections) -> Callable[..., ServerProtocol]:
    """Return the factory of protocols for uvicorn's `http` option."""

    def make(**options: Any) -> ServerProtocol:
        return ServerProtocol(limits, connections, **options)

    return make
