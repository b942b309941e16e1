"""A provider's answer while it is read: no wait without a deadline, no body without a bound."""

import asyncio
from dataclasses import dataclass

import aiohttp

from platform_app.errors import PlatformError
from platform_app.llm import provider_errors as errors
from platform_app.llm.patience import Patience

_MAX_ERROR_BYTES = 64 * 1024
_END_SECONDS = 0.05
"""How long the end of a body is waited for once the answer is complete: without it the connection is of no more use."""
TRANSPORT_ERRORS = (aiohttp.ClientError, TimeoutError, OSError)
"""What aiohttp raises where a connection fails, and Patience where one takes too long."""


@dataclass(frozen=True, slots=True)
class ProviderLimits:
    """What any provider gets at most."""

    connect_seconds: float
    """For a free connection of the pool, and for connecting."""
    silence_seconds: float
    """From the call until the answer begins, and between any two pieces of it."""
    max_response_bytes: int
    """For a whole answer, a stream's included."""


class ProviderResponse:
    """Whoever gets one reads it whole or closes it.

    Closing has no effect on an answer that was read whole, whose connection is back in the pool; else it ends the
    connection, so that the provider stops generating.
    """

    __slots__ = ("_content", "_limits", "_patience", "_received", "_response")

    def __init__(self, response: aiohttp.ClientResponse, limits: ProviderLimits, patience: Patience) -> None:
        self._response = response
        self._content = response.content
        self._limits = limits
        self._patience = patience
        self._received = 0

    def require(self, content_type: str, called: str) -> None:
        """Raises ProviderBadResponse where the answer is of another type; `called` is what to call the expected one."""
        if self._response.content_type != content_type:
            raise errors.bad_response(f"expected {called}, got {self._response.content_type[:100]!r}")

    async def read_json(self) -> bytes:
        """The whole body, closing the response. Raises ProviderFailed where it is not JSON, too large or breaks off."""
        parts = []
        try:
            self.require("application/json", "JSON")
            if (self._response.content_length or 0) > self._limits.max_response_bytes:
                raise self._too_large()
            while part := await self.next_piece():
                parts.append(part)
        finally:
            self.close()
        return b"".join(parts)

    async def next_piece(self) -> bytes:
        """What arrived since the last piece, waiting for it; empty at the end of the body.

        Raises:
            ProviderFailed: it took too long, is too much, or broke off.
        """
        try:
            async with self._patience.wait():
                piece: bytes = await self._content.readany()
        except TRANSPORT_ERRORS as error:
            raise translate(error, self._limits, self._patience) from error
        self._received += len(piece)
        if self._received > self._limits.max_response_bytes:
            raise self._too_large()
        return piece

    async def read_error(self) -> bytes:
        """The start of an error's body, closing the response; the status says enough where it cannot be read."""
        parts, size = [], 0
        try:
            while size < _MAX_ERROR_BYTES:
                async with self._patience.wait():
                    part = await self._content.readany()
                if not part:
                    break
                parts.append(part)
                size += len(part)
        except TRANSPORT_ERRORS:
            pass
        finally:
            self.close()
        return b"".join(parts)[:_MAX_ERROR_BYTES]

    async def wait_for_the_end(self) -> None:
        """The answer is complete; the end of its body usually is there already, and gives the connection back."""
        if self._content.at_eof():
            return
        try:
            async with asyncio.timeout(_END_SECONDS):
                while await self._content.readany():
                    pass
        except TRANSPORT_ERRORS:
            pass  # the answer is complete all the same

    def close(self) -> None:
        """At once: it waits for nothing."""
        self._response.close()

    def _too_large(self) -> PlatformError:
        return errors.bad_response(f"the answer is larger than {self._limits.max_response_bytes} bytes")


def translate(error: Exception, limits: ProviderLimits, patience: Patience) -> PlatformError:
    """One of TRANSPORT_ERRORS as ours, most specific first."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return errors.timed_out(f"no connection within {limits.connect_seconds:g} s")
        case TimeoutError():
            return patience.exhausted()
        case aiohttp.ClientPayloadError():
            return errors.bad_response("the connection ended in the middle of the answer")
        case aiohttp.ClientConnectionError() | OSError():
            return errors.unavailable()
        case _:
            return errors.bad_response("the answer was not valid HTTP")
