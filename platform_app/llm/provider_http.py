"""HTTP to providers, over one shared aiohttp session: deadlines, bounded bodies, and every failure one of our errors.

Why not through a provider's package: docs/adr/0003-provider-calls-on-aiohttp.md, with figures.
"""

import io
import sys
from collections.abc import Callable, Mapping

import aiohttp
import orjson

from platform_app.errors import PlatformError, ProviderRejectedRequest
from platform_app.llm import provider_errors as errors
from platform_app.llm.patience import Patience
from platform_app.llm.provider_response import TRANSPORT_ERRORS, ProviderLimits, ProviderResponse, translate

_MAX_BYTES_AT_ONCE = 1024 * 1024
"""Larger requests are written piece by piece, as fast as the provider takes them."""
ErrorOf = Callable[[int, Mapping[str, str], bytes], PlatformError]
"""A wire format's error table: status, headers and the first bytes of the body."""


class ProviderHttp:
    """The requests of one provider. The session belongs to whoever opened it."""

    def __init__(
        self, session: aiohttp.ClientSession, limits: ProviderLimits, headers: Mapping[str, str], error_of: ErrorOf
    ) -> None:
        self._session = session
        self._limits = limits
        self._error_of = error_of
        # Answers are small, and unpacked there is no bomb among them.
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **headers}
        # Waiting for an answer is bounded by Patience: see there why not by aiohttp.
        self._timeout = aiohttp.ClientTimeout(
            total=None,
            connect=limits.connect_seconds,  # includes waiting for a free connection of the pool
            ceil_threshold=sys.maxsize,  # else aiohttp rounds deadlines up to whole seconds
        )

    async def post(
        self, url: str, headers: Mapping[str, str], body: Mapping[str, object], seconds: float
    ) -> ProviderResponse:
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

    async def _request(
        self, method: str, url: str, headers: Mapping[str, str], data: aiohttp.Payload | None, seconds: float
    ) -> ProviderResponse:
        if seconds <= 0:
            raise errors.timed_out("no time was left for this call")
        patience = Patience(self._limits.silence_seconds, seconds)
        all_headers = {**self._headers, **headers}
        try:
            async with patience.wait():
                answer = await self._session.request(
                    method, url, data=data, headers=all_headers, timeout=self._timeout, allow_redirects=False
                )
        except TRANSPORT_ERRORS as error:
            raise translate(error, self._limits, patience) from error
        response = ProviderResponse(answer, self._limits, patience)
        if answer.status == 200:
            return response
        raise self._error_of(answer.status, answer.headers, await response.read_error())


def _payload(body: bytes) -> aiohttp.Payload:
    """As a payload, since aiohttp would search its registry for what to do with bytes: 3 % of a request."""
    if len(body) <= _MAX_BYTES_AT_ONCE:
        return aiohttp.BytesPayload(body)
    return aiohttp.BytesIOPayload(io.BytesIO(body))
