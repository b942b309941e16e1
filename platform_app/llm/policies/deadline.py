"""One deadline for everything that happens to a call until the first byte of its response."""

import asyncio

from platform_app.errors import ProviderTimeout
from platform_app.llm.interfaces import Upstream, UpstreamResponse
from platform_app.llm.requests import ModelCall


class Deadline:
    """Enforce the call's deadline. The inner policies look at it too, but only to avoid useless work."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def send(self, call: ModelCall) -> UpstreamResponse:
        """See Upstream.send. A cancellation by the caller stays a cancellation, even if the deadline passes meanwhile.

        Raises:
            ProviderTimeout: call.deadline passed first.
        """
        try:
            async with asyncio.timeout_at(call.deadline) as timeout:
                return await self._upstream.send(call)
        except TimeoutError:
            if not timeout.expired():
                raise
            raise ProviderTimeout(
                "No provider responded in time.", details=["the time for all attempts together is used up"]
            ) from None
