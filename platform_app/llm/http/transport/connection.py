"""One connection to a provider: writes requests, and feeds their answers to exchanges, one after another.

HTTP/1.1 (RFC 9112) as a client needs it that asks for no compression, no upgrade and no pipelining; parsed by
httptools, which is Node's parser, and strict about lengths.
"""

import asyncio
import re
from typing import Protocol, cast

import httptools

from platform_app.llm.http.transport.errors import ConnectionLost, IncompleteResponse, ProtocolError, TransportError
from platform_app.llm.http.transport.response_stream import Headers, ResponseStream
from platform_app.llm.http.transport.target import Address

MAX_HEAD_BYTES = 64 * 1024
"""Of an answer's head, of its trailers, and of anything else between two pieces of its body."""
MAX_INTERIM_RESPONSES = 16
"""1xx before the response itself. Real servers send one or two."""
_PROTOCOL = b"HTTP/"
_VERSIONS = ("1.1", "1.0")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_FRAMING = (b"content-length", b"transfer-encoding")
_STATUSES = range(100, 600)
_JOINED_BYTES = 64 * 1024
"""Up to this size head and body are one write of one copy; larger bodies are not copied."""


class _Refused(Exception):
    """A head that httptools takes and that is no response of HTTP/1.1. Becomes an HttpParserCallbackError."""


class Owner(Protocol):
    """Who gave the connection, and gets it back."""

    def opened(self, connection: "Connection") -> None:
        """It can be used, unless it is lost in the same moment."""
        ...

    def finished(self, connection: "Connection", reusable: bool) -> None:
        """Its response is over. Told once for each `send`."""
        ...

    def lost(self, connection: "Connection") -> None:
        """It is closed. Told once after `opened`, and after `finished` where that is due."""
        ...


class Connection(asyncio.Protocol):
    """Made by `loop.create_connection`; used for one response at a time."""

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

    def __init__(self, owner: Owner, address: Address, loop: asyncio.AbstractEventLoop) -> None:
        self.address = address
        self._owner = owner
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._response: ResponseStream | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: Headers = {}
        self._status = 0
        self._framed = False  # the answer says where it ends
        self._reusable = False
        self._paused = False
        self._start = b""  # the first bytes of the response: httptools would take another protocol's too
        self._interim = 0
        self._quiet_bytes = 0  # received since the head or a piece of the body was complete

    @property
    def usable(self) -> bool:
        """Whether another response may begin on it."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, head: bytes, body: bytes) -> ResponseStream:
        """Write a request; its answer arrives in the response."""
        transport = self._transport
        response = ResponseStream(self, self._loop)
        self._response = response
        self._status = self._quiet_bytes = self._interim = 0
        self._start = b""
        if transport is None:
            self._end(ConnectionLost())
        elif len(body) <= _JOINED_BYTES:
            transport.write(head + body)
        else:
            transport.writelines([head, body])
        return response

    def pause(self) -> None:
        """See Line.pause."""
        if self.usable and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """See Line.resume."""
        if self._paused and self.usable and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """See Line.give_up."""
        self._release(reusable=False)

    def close(self) -> None:
        """Close it at once; what is not sent yet is dropped."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.BaseProtocol."""
        self._transport = cast(asyncio.Transport, transport)
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._response is None:  # nobody asked: an answer to nothing, or a server that says why it closes
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
                self._complete()  # the end of the connection is the end of such an answer
            else:
                self._end(IncompleteResponse())
        self._owner.lost(self)

    # httptools

    def on_message_begin(self) -> None:
        """A head begins."""
        if self._response is None:
            self.close()  # more than one answer to one request
        self._headers = {}
        self._status = 0
        self._framed = False

    def on_status(self, reason: bytes) -> None:
        """The text after the status code, or a part of it."""
        if _CONTROL.search(reason):
            raise _Refused

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is not used."""
        name = name.lower()
        if self._status:
            if name in _FRAMING:
                raise _Refused
        else:
            if name == b"content-length":
                self._framed = True
            elif name == b"transfer-encoding":
                # httptools reads a body of any other coding to the end of the connection, or as if it were plain.
                if name in self._headers or value.strip().lower() != b"chunked":
                    raise _Refused
                self._framed = True
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        """The head is whole; another one follows an interim answer (1xx)."""
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
        self._response.began(status, self._headers)

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        self._quiet_bytes = 0
        if self._response is not None:
            self._response.arrived(piece)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self._status:
            self._complete()

    def _complete(self) -> None:
        response, transport = self._response, self._transport
        if response is None:
            return
        # A request that is not written yet although its answer is complete would meet the next one on the way.
        written = transport is not None and transport.get_write_buffer_size() == 0
        self._release(reusable=self._reusable and written)
        response.ended()

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
            self.resume()  # a reader that was slow may have stopped it
        else:
            self.close()
        self._owner.finished(self, reusable and self.usable)
