"""A provider's answer while it is read: no wait without a deadline, no body without a bound."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from platform_app.errors import PlatformError
from platform_app.llm import errors
from platform_app.llm.http.timeouts import CallTimeouts
from platform_app.llm.http.transport.errors import (
    ConnectionLost,
    ConnectTimeout,
    IncompleteResponse,
    ProxyRefused,
    TransportError,
)
from platform_app.llm.http.transport.response_stream import ResponseStream

_MAX_ERROR_BYTES = 64 * 1024
_END_SECONDS = 0.05
"""How long the end of a body is waited for once the answer is complete: without it the connection is of no more use."""


@dataclass(frozen=True, slots=True)
class ProviderLimits:
    """What any provider gets at most."""

    connect_timeout_seconds: float
    """For a free connection of the pool, and for connecting."""
    idle_timeout_seconds: float
    """From the call until the answer begins, and between any two pieces of it."""
    max_response_bytes: int
    """For a whole answer, a stream's included."""


class ProviderResponse:
    """Whoever gets one reads it whole or closes it.

    Closing has no effect on an answer that arrived whole, whose connection is back in the pool; else it ends the
    connection, so that the provider stops generating.
    """

    __slots__ = ("_exchange", "_limits", "_received", "_timeouts")

    def __init__(self, exchange: ResponseStream, limits: ProviderLimits, timeouts: CallTimeouts) -> None:
        self._exchange = exchange
        self._limits = limits
        self._timeouts = timeouts
        self._received = 0

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self._exchange.headers.items()}

    @property
    def is_event_stream(self) -> bool:
        """Whether the provider declares server-sent events."""
        return self._content_type() == b"text/event-stream"

    def require_uncompressed(self) -> None:
        """Raises ProviderBadResponse where the body is compressed."""
        if self._exchange.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise errors.bad_response("the answer is compressed, which was not asked for")

    def unexpected(self, called: str, start: bytes) -> PlatformError:
        """The error for a body that is neither JSON nor events; `called` is what to call what was expected. The text of
        a page is kept for the log: a proxy in between says there what is wrong."""
        given = self._content_type()[:100].decode("latin-1") or "a body without a type"
        return errors.bad_response(f"expected {called}, got {given!r}", start if start.lstrip()[:1] == b"<" else b"")

    async def read_body(self, first: bytes = b"") -> bytes:
        """The whole body, closing the response; `first` was read before. Raises ProviderFailed where it is compressed,
        too large or breaks off."""
        parts = [first] if first else []
        try:
            self.require_uncompressed()
            length = self._exchange.headers.get(b"content-length", b"0")
            if int(length) > self._limits.max_response_bytes:  # httptools took it, so it is a number
                raise self._too_large()
            while part := await self.next_bytes():
                parts.append(part)
        finally:
            self.close()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def next_bytes(self) -> bytes:
        """What arrived since the last piece, waiting for it; empty at the end of the body.

        Raises:
            ProviderFailed: it took too long, is too much, or broke off.
        """
        try:
            piece = await self._exchange.read(self._timeouts.next_deadline())
        except TimeoutError as error:
            raise self._timeouts.timeout_error(sending=self._received > 0) from error
        except TransportError as error:
            raise translate(error, self._limits, self._timeouts) from error
        self._received += len(piece)
        if self._received > self._limits.max_response_bytes:
            raise self._too_large()
        return piece

    async def read_error(self) -> bytes:
        """The start of an error's body, closing the response; the status says enough where it cannot be read."""
        parts, size = [], 0
        try:
            while size < _MAX_ERROR_BYTES and (part := await self._exchange.read(self._timeouts.next_deadline())):
                parts.append(part)
                size += len(part)
        except (TransportError, TimeoutError):
            pass
        finally:
            self.close()
        return b"".join(parts)[:_MAX_ERROR_BYTES]

    async def drain(self) -> None:
        """The answer is complete; the end of its body usually is there already, and gives the connection back."""
        if self._exchange.complete:
            return
        until = asyncio.get_running_loop().time() + _END_SECONDS
        try:
            while await self._exchange.read(until):
                pass
        except (TransportError, TimeoutError):
            pass  # the answer is complete all the same

    def close(self) -> None:
        """At once: it waits for nothing."""
        self._exchange.close()

    def _content_type(self) -> bytes:
        return self._exchange.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()

    def _too_large(self) -> PlatformError:
        return errors.too_large(f"the answer is larger than {self._limits.max_response_bytes} bytes")


def translate(error: TransportError | TimeoutError, limits: ProviderLimits, timeouts: CallTimeouts) -> PlatformError:
    """What happened on the way, as one of our errors."""
    match error:
        case TimeoutError():
            return timeouts.timeout_error()
        case ConnectTimeout():
            return errors.timed_out(f"no connection within {limits.connect_timeout_seconds:g} s")
        case IncompleteResponse():
            return errors.bad_response("the connection ended in the middle of the answer")
        case ProxyRefused():
            return errors.proxy_refused(error.status)
        case ConnectionLost():
            return errors.unavailable()
        case _:
            return errors.bad_response("the answer was not valid HTTP")
