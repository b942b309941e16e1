"""A provider's response while it is read: every wait has a timeout, and every body a size limit."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from platform_app.errors import PlatformError
from platform_app.llm import errors
from platform_app.llm.codecs.content_encoding import is_compressed
from platform_app.llm.http.timeouts import CallTimeouts
from platform_app.llm.http.transport.errors import (
    ConnectionLost,
    ConnectTimeout,
    IncompleteResponse,
    ProxyRefused,
    TransportError,
)
from platform_app.llm.http.transport.response_stream import ResponseStream
from platform_app.observability.event_loop.turns import turn_for
from platform_app.observability.record import AttemptRecord

_MAX_ERROR_BYTES = 64 * 1024
ERROR_SECONDS = 2.0
"""The time for the body of an error, from the arrival of its head."""
_END_SECONDS = 0.05
"""How long to wait for the end of a body whose response is complete. Without the end the connection is not reusable."""


@dataclass(frozen=True, slots=True)
class ProviderLimits:
    """The limits of every provider."""

    connect_timeout_seconds: float
    """For waiting for a free connection, and for connecting."""
    idle_timeout_seconds: float
    """Until the response begins, and between any two reads of its body."""
    max_response_bytes: int
    """For a whole response, streams included."""


class ProviderResponse:
    """A response whose head has arrived. The caller reads it to the end, or closes it.

    Closing a response that has arrived completely does nothing: its connection is back in the pool. Closing any other
    response closes the connection, so that the provider stops generating.
    """

    __slots__ = ("_limits", "_received", "_record", "_stream", "_timeouts")

    def __init__(
        self,
        stream: ResponseStream,
        limits: ProviderLimits,
        timeouts: CallTimeouts,
        record: AttemptRecord | None = None,
    ) -> None:
        """The record gets the size of the body that was read."""
        self._stream = stream
        self._limits = limits
        self._timeouts = timeouts
        self._record = record
        self._received = 0

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; their names are in lower case."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self._stream.headers.items()}

    @property
    def is_event_stream(self) -> bool:
        """Whether the provider declares server-sent events."""
        return self._content_type() == b"text/event-stream"

    def require_uncompressed(self) -> None:
        """Raises ProviderBadResponse if the body is compressed."""
        given = self._stream.headers.get(b"content-encoding")
        if given and is_compressed(given.decode("latin-1")):
            raise errors.bad_response("the response is compressed, although the request accepts no compression")

    def unexpected_body(self, expected: str, start: bytes) -> PlatformError:
        """Return the error for a body that is neither JSON nor events; `expected` names what it should be. The text of
        an HTML page is kept for the log: a proxy in front of the provider explains the failure there."""
        given = self._content_type()[:100].decode("latin-1") or "a body without a type"
        return errors.bad_response(f"expected {expected}, got {given!r}", start if start.lstrip()[:1] == b"<" else b"")

    async def read_body(self, first: bytes = b"") -> bytes:
        """Read the whole body and close the response; `first` was read before. Raises ProviderFailed if the body is
        compressed, too large or incomplete."""
        parts = [first] if first else []
        try:
            self.require_uncompressed()
            length = self._stream.headers.get(b"content-length", b"0")
            if int(length) > self._limits.max_response_bytes:  # httptools accepted it, so it is a number
                raise self._too_large()
            while part := await self.next_bytes():
                parts.append(part)
            if self._record is not None:
                self._record.received_all = True
        finally:
            self.close()
        await turn_for(self._received)  # to join and parse; its request's body can then go
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def next_bytes(self) -> bytes:
        """Wait for more bytes of the body and return them; empty at the end of the body.

        Raises:
            ProviderFailed: a timeout, a body that is too large, or a lost connection.
        """
        try:
            data = await self._stream.read(self._timeouts.next_deadline())
        except TimeoutError as error:
            raise self._timeouts.timeout_error(sending=self._received > 0) from error
        except TransportError as error:
            raise translate(error, self._limits, self._timeouts) from error
        self._received += len(data)
        if self._record is not None:
            self._record.received_bytes = self._received
        if self._received > self._limits.max_response_bytes:
            raise self._too_large()
        return data

    async def read_error(self) -> bytes:
        """Read the start of an error body and close the response. The whole body has ERROR_SECONDS, so that a provider
        that does not end it cannot hold the call, and a retry or another route follows. What has arrived by then is
        returned: if that is nothing, the status has to suffice. Below 400 the status always does: no body explains it.
        """
        parts, size = [], 0
        until = min(self._timeouts.next_deadline(), asyncio.get_running_loop().time() + ERROR_SECONDS)
        try:
            while self._stream.status >= 400 and size < _MAX_ERROR_BYTES and (part := await self._stream.read(until)):
                parts.append(part)
                size += len(part)
        except (TransportError, TimeoutError):
            pass
        finally:
            self.close()
        return b"".join(parts)[:_MAX_ERROR_BYTES]

    async def drain(self) -> None:
        """Read the end of the body after a complete response, so that the connection returns to the pool. Usually the
        end has arrived already."""
        if self._stream.complete:
            return
        until = asyncio.get_running_loop().time() + _END_SECONDS
        try:
            while await self._stream.read(until):
                pass
        except (TransportError, TimeoutError):
            pass  # the response is complete without it

    def close(self) -> None:
        """Close the response at once, without waiting."""
        self._stream.close()

    def _content_type(self) -> bytes:
        return self._stream.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()

    def _too_large(self) -> PlatformError:
        return errors.too_large(f"the response is larger than {self._limits.max_response_bytes} bytes")


def translate(error: TransportError | TimeoutError, limits: ProviderLimits, timeouts: CallTimeouts) -> PlatformError:
    """Return our error for a failure of the transport."""
    match error:
        case TimeoutError():
            return timeouts.timeout_error()
        case ConnectTimeout():
            return errors.timed_out(f"no connection within {limits.connect_timeout_seconds:g} s")
        case IncompleteResponse():
            return errors.bad_response("the connection ended before the response was complete")
        case ProxyRefused():
            return errors.proxy_refused(error.status)
        case ConnectionLost():
            return errors.unavailable()
        case _:
            return errors.bad_response("the response is not valid HTTP")
