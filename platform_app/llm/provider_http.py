"""HTTP to providers, over one shared aiohttp session: deadlines, bounded bodies, and every failure one of our errors.

Why not through a provider's package: docs/adr/0003-provider-calls-on-aiohttp.md, with figures.
"""

import io
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp
import orjson

from platform_app.errors import PlatformError, ProviderRejectedRequest
from platform_app.llm import provider_errors as errors

_MAX_ERROR_BYTES = 64 * 1024
_MAX_BYTES_AT_ONCE = 1024 * 1024
"""Larger requests are written piece by piece, as fast as the provider takes them."""
TRANSPORT_ERRORS = (aiohttp.ClientError, TimeoutError, OSError)
"""What aiohttp raises where a connection fails."""
ErrorOf = Callable[[int, Mapping[str, str], bytes], PlatformError]
"""A wire format's error table: status, headers and the first bytes of the body."""


@dataclass(frozen=True, slots=True)
class ProviderLimits:
    """What any provider gets at most."""

    connect_seconds: float
    """For a free connection of the pool, and for connecting."""
    silence_seconds: float
    """Until the answer begins, and between any two pieces of it."""
    max_response_bytes: int
    """For a whole answer, a stream's included."""


class ProviderHttp:
    """The requests of one provider. The session belongs to whoever opened it."""

    def __init__(
        self, session: aiohttp.ClientSession, limits: ProviderLimits, headers: Mapping[str, str], error_of: ErrorOf
    ) -> None:
        self.limits = limits
        self._session = session
        self._error_of = error_of
        # Answers are small, and unpacked there is no bomb among them.
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **headers}

    async def post(
        self, url: str, headers: Mapping[str, str], body: Mapping[str, object], seconds: float
    ) -> aiohttp.ClientResponse:
        """The response of a 200, its body unread; whoever gets it closes it. All of it has `seconds`, the reading too.

        Raises:
            ProviderFailed, RequestRefused: every other outcome.
        """
        try:
            content = orjson.dumps(body)
        except orjson.JSONEncodeError:  # what a translation made of texts that hold JSON
            why = "the request is nested too deeply, or holds an integer of more than 64 bits"
            raise errors.make_error(ProviderRejectedRequest, why) from None
        return await self._request("POST", url, headers, _payload(content), seconds)

    async def probe(self, url: str, headers: Mapping[str, str], seconds: float) -> None:
        """GET something whose content does not matter. Raises like `post`."""
        response = await self._request("GET", url, headers, None, seconds)
        response.close()

    async def read_json(self, response: aiohttp.ClientResponse) -> bytes:
        """The whole body, closing the response. Raises ProviderFailed where it is not JSON, too large or breaks off."""
        limit = self.limits.max_response_bytes
        parts, size = [], 0
        try:
            if response.content_type != "application/json":
                raise errors.bad_response(f"expected JSON, got {response.content_type[:100]!r}")
            if (response.content_length or 0) > limit:
                raise errors.bad_response(f"the answer is larger than {limit} bytes")
            while part := await response.content.readany():
                parts.append(part)
                size += len(part)
                if size > limit:
                    raise errors.bad_response(f"the answer is larger than {limit} bytes")
        except TRANSPORT_ERRORS as error:
            raise self.translate(error) from error
        finally:
            # Without effect on an answer that was read whole, whose connection is back in the pool; else it ends the
            # connection, so that the provider stops generating.
            response.close()
        return b"".join(parts)

    def translate(self, error: Exception) -> PlatformError:
        """One of TRANSPORT_ERRORS as ours, most specific first."""
        match error:
            case aiohttp.ConnectionTimeoutError():
                return errors.timed_out(f"no connection within {self.limits.connect_seconds:g} s")
            case aiohttp.SocketTimeoutError():
                return errors.timed_out(f"silence for {self.limits.silence_seconds:g} s")
            case TimeoutError():
                return errors.timed_out("no complete answer within the time that this call had")
            case aiohttp.ClientPayloadError():
                return errors.bad_response("the connection ended in the middle of the answer")
            case aiohttp.ClientConnectionError() | OSError():
                return errors.unavailable()
            case _:
                return errors.bad_response("the answer was not valid HTTP")

    async def _request(
        self, method: str, url: str, headers: Mapping[str, str], data: aiohttp.Payload | None, seconds: float
    ) -> aiohttp.ClientResponse:
        if seconds <= 0:  # to aiohttp, zero is no limit
            raise errors.timed_out("no time was left for this call")
        timeout = aiohttp.ClientTimeout(
            total=seconds,
            connect=self.limits.connect_seconds,  # includes waiting for a free connection of the pool
            sock_read=self.limits.silence_seconds,
            ceil_threshold=sys.maxsize,  # else aiohttp rounds deadlines up to whole seconds
        )
        try:
            response = await self._session.request(
                method, url, data=data, headers={**self._headers, **headers}, timeout=timeout, allow_redirects=False
            )
        except TRANSPORT_ERRORS as error:
            raise self.translate(error) from error
        if response.status == 200:
            return response
        try:
            start = await _read_start(response, _MAX_ERROR_BYTES)
        finally:
            response.close()
        raise self._error_of(response.status, response.headers, start)


def _payload(body: bytes) -> aiohttp.Payload:
    """As a payload, since aiohttp would search its registry for what to do with bytes: 3 % of a request."""
    if len(body) <= _MAX_BYTES_AT_ONCE:
        return aiohttp.BytesPayload(body)
    return aiohttp.BytesIOPayload(io.BytesIO(body))


async def _read_start(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """At most `limit` bytes of an error's body; the status says enough where it cannot be read."""
    parts, size = [], 0
    try:
        while size < limit and (part := await response.content.readany()):
            parts.append(part)
            size += len(part)
    except (aiohttp.ClientError, TimeoutError):
        pass
    return b"".join(parts)[:limit]
