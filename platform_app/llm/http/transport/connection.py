"""One connection to a provider: writes one request at a time, and feeds its response to a ResponseStream.

HTTP/1.1 (RFC 9112) for a client without compression, upgrades and pipelining. The parser is httptools, which is
Node's and strict about lengths.
"""

import asyncio
import re
from typing import Protocol, cast

import httptools

from platform_app.llm.http.transport.errors import ConnectionLost, IncompleteResponse, ProtocolError, TransportError
from platform_app.llm.http.transport.response_stream import Headers, ResponseStream
from platform_app.llm.http.transport.target import Address

MAX_HEAD_BYTES = 64 * 1024
"""The size of a response's head, of its trailers, and of anything else between two parts of its body."""
MAX_INTERIM_RESPONSES = 16
"""1xx responses before the final one. Real servers send one or two."""
_PROTOCOL = b"HTTP/"
_VERSIONS = ("1.1", "1.0")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_FRAMING = (b"content-length", b"transfer-encoding")
_STATUSES = range(100, 600)
_MAX_JOINED_BYTES = 64 * 1024
"""Up to this size, head and body are copied and sent by one write; larger bodies are not copied."""


class _Refused(Exception):
    """A head that httptools accepts, although it is not valid in HTTP/1.1. httptools turns this exception into an
    HttpParserCallbackError."""


class ConnectionOwner(Protocol):
    """Lends the connection, and gets it back: the pool."""

    def released(self, connection: "Connection", reusable: bool) -> None:
        """The request of the connection has ended. Called once for each `send`."""
        ...

    def lost(self, connection: "Connection") -> None:
        """The connection is closed. Called at most once, and after `released` if a request was running. uvloop does not
        report the end of a connection whose opening was cancelled, so an owner counts it only once it has it."""
        ...


class Connection(asyncio.Protocol):
    """Created by `loop.create_connection`, and used for one request at a time."""

    __slots__ = (
        "_framed",
        "_headers",
        "_interim",
        "_loop",
        "_owner",
        "_parser",
        "_paused",
        "_quiet_bytes",
        "_response",
        "_reusable",
        "_start",
        "_status",
        "_transport",
        "address",
    )  # fmt: skip

    def __init__(self, owner: ConnectionOwner, address: Address, loop: asyncio.AbstractEventLoop) -> None:
        self.address = address
        self._owner = owner
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._response: ResponseStream | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: Headers = {}
        self._status = 0
        self._framed = False  # whether the head says where the response ends
        self._reusable = False
        self._paused = False
        self._start = b""  # of the response: httptools would accept those of another protocol too
        self._interim = 0
        self._quiet_bytes = 0  # received since the head was complete or a part of the body arrived

    @property
    def is_lost(self) -> bool:
        """Whether the connection is closed and its owner knows it."""
        return self._transport is None

    @property
    def usable(self) -> bool:
        """Whether the connection can send another request."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, head: bytes, body: bytes) -> ResponseStream:
        """Write a request and return its response, which arrives later."""
        transport = self._transport
        response = ResponseStream(self, self._loop)
        self._response = response
        self._status = self._quiet_bytes = self._interim = 0
        self._start = b""
        if transport is None:
            self._end(ConnectionLost())
        elif len(body) <= _MAX_JOINED_BYTES:
            transport.write(head + body)
        else:
            transport.writelines([head, body])
        return response

    def pause(self) -> None:
        """See ConnectionHandle.pause."""
        if self.usable and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """See ConnectionHandle.resume."""
        if self._paused and self.usable and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """See ConnectionHandle.abort."""
        self._release(reusable=False)

    def close(self) -> None:
        """Close the socket at once and drop unsent bytes. A response in progress gets an error."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.BaseProtocol."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._response is None:  # without a request: a server that says why it closes
            self.close()
            return
        self._quiet_bytes += len(data)
        if len(self._start) < len(_PROTOCOL):
            self._start += data[: len(_PROTOCOL) - len(self._start)]
            if not _PROTOCOL.startswith(self._start):
                self._end(ProtocolError())
                return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._end(ProtocolError())
            return
        if self._quiet_bytes > MAX_HEAD_BYTES and self._response is not None:
            self._end(ProtocolError())

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.BaseProtocol."""
        self._transport = None
        if self._response is not None:
            if not self._status:
                self._end(ConnectionLost())
            elif exc is None and not self._framed:
                self._complete()  # the end of the connection is the end of such a response
            else:
                self._end(IncompleteResponse())
        del self._parser  # it refers to this object: a reference cycle
        self._owner.lost(self)

    # httptools

    def on_message_begin(self) -> None:
        """Reset the state for a new head."""
        if self._response is None:
            self.close()  # a second response to one request
        self._headers = {}
        self._status = 0
        self._framed = False

    def on_status(self, reason: bytes) -> None:
        """Check the text after the status code, or a part of it."""
        if _CONTROL.search(reason):
            raise _Refused

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header. Trailers are checked and dropped."""
        name = name.lower()
        if self._status:
            if name in _FRAMING:
                raise _Refused
        else:
            if name == b"content-length":
                self._framed = True
            elif name == b"transfer-encoding":
                # httptools reads a body of any other coding until the connection ends, or without decoding it.
                if name in self._headers or value.strip().lower() != b"chunked":
                    raise _Refused
                self._framed = True
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        """Check the complete head. After an interim response (1xx) another head follows."""
        status, version = self._parser.get_status_code(), self._parser.get_http_version()
        if status not in _STATUSES or version not in _VERSIONS:
            raise _Refused
        if version == "1.0" and b"transfer-encoding" in self._headers:  # its framing is faulty (RFC 9112, section 6.1)
            raise _Refused
        if status < 200:
            self._interim += 1
            if self._interim > MAX_INTERIM_RESPONSES:
                raise _Refused
            return
        if self._response is None:
            return
        self._status = status
        self._reusable = self._parser.should_keep_alive()
        self._quiet_bytes = 0
        self._response.feed_head(status, self._headers)

    def on_body(self, data: bytes) -> None:
        """Pass on bytes of the body."""
        self._quiet_bytes = 0
        if self._response is not None:
            self._response.feed_body(data)

    def on_message_complete(self) -> None:
        """Complete the response."""
        if self._status:
            self._complete()

    def _complete(self) -> None:
        response, transport = self._response, self._transport
        if response is None:
            return
        # If the request is not completely written although its response is complete, its rest would mix with the next
        # request.
        written = transport is not None and transport.get_write_buffer_size() == 0
        self._release(reusable=self._reusable and written)
        response.feed_end()

    def _end(self, error: TransportError) -> None:
        response = self._response
        self._release(reusable=False)
        if response is not None:
            response.fail(error)

    def _release(self, *, reusable: bool) -> None:
        if self._response is None:
            return
        self._response = None
        if reusable:
            self.resume()  # a slow reader may have paused it
        else:
            self.close()
        self._owner.released(self, reusable and self.usable)
