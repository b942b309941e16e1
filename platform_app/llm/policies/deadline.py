"""One deadline for everything that a request's call goes through until its first byte."""

import asyncio

from platform_app.errors import ProviderTimeout
from platform_app.llm.interfaces import Upstream, UpstreamResponse
from platform_app.llm.requests import ModelCall


class Deadline:
    """The outermost policy. What the others do about the deadline only spares pointless work; this one enforces it."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def send(self, call: ModelCall) -> UpstreamResponse:
        """See Upstream.send. A cancellation from outside stays one, even when the deadline passes meanwhile.

        Raises:
            ProviderTimeout: call.deadline came first.
        """
        try:
            async with asyncio.timeout_at(call.deadline) as within:
                return await self._upstream.send(call)
        except TimeoutError:
            if not within.expired():
                raise
            raise ProviderTimeout(
                "No provider answered in time.", details=["the time for all attempts together is over"]
            ) from None
