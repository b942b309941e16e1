"""The innermost upstream: one route of the catalog, its adapter and its credential."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from platform_app.errors import PlatformError, ProviderAuthFailed
from platform_app.llm.chunk_stream import ChunkStream, StreamObserver
from platform_app.llm.errors import mask_credential, timed_out
from platform_app.llm.interfaces import Credentials, ModelAdapter, UpstreamResponse
from platform_app.llm.models.route import Route
from platform_app.llm.requests import ModelCall, UpstreamCall
from platform_app.observability.logging import get_logger
from platform_app.observability.provider_call import ProviderCall

_log = get_logger("providers")


class ProviderRoute:
    """Sends a call along one route; every call that is sent is counted, timed and noted in the attempt_log."""

    def __init__(self, route: Route, adapter: ModelAdapter, credentials: Credentials) -> None:
        self.route = route
        self._adapter = adapter
        self._credentials = credentials

    async def send(self, call: ModelCall) -> UpstreamResponse:
        """See Upstream.send. A credential that the provider refuses is fetched anew, and a changed one tried, once."""
        name = self.route.secret_name
        call.attempt_log.route = self.route
        if name is None:
            return await self._attempt(call, None)
        credential = await self._credentials.get(name)
        try:
            return await self._attempt(call, credential)
        except ProviderAuthFailed:
            fresh = await self._credentials.refresh(name, credential)
            if fresh == credential:
                raise
        return await self._attempt(call, fresh)

    async def _attempt(self, call: ModelCall, credential: str | None) -> UpstreamResponse:
        route = self.route
        left = max(0.0, call.deadline - asyncio.get_running_loop().time())
        seconds = left if route.timeout_seconds is None else min(left, route.timeout_seconds)
        attempt = UpstreamCall(
            route.upstream_model, call.body, seconds, call.operation, call.stream, capabilities=route.capabilities
        )
        call.attempt_log.attempt(route)
        record = ProviderCall(route.provider, route.public_model)
        sending = self._adapter.send(attempt, credential)
        if call.stream and route.first_token_seconds is not None:
            sending = _with_content_within(route.first_token_seconds, sending)
        try:
            answer = await sending
        except BaseException as error:
            if isinstance(error, PlatformError):
                error.tries = call.attempt_log.fail(route)
            self._note(error, credential)
            record.end(error)
            raise
        if isinstance(answer, ChunkStream):
            record.first_chunk()
            answer.on_end(StreamObserver.FAILURE_LOG, lambda error: self._note(error, credential))
            answer.on_end(StreamObserver.PROVIDER_METRICS, record.end)
        else:
            record.end(None)
        return answer

    def _note(self, error: BaseException | None, credential: str | None) -> None:
        """Mask our credential in a failure. What the provider said of it is logged where no caller is told."""
        mask_credential(error, credential)
        if isinstance(error, PlatformError) and error.provider_message:
            _log.warning(
                "provider_call_failed",
                provider=self.route.provider,
                model=self.route.upstream_model,
                code=error.code,
                words=error.provider_message,
            )


async def _with_content_within(seconds: float, sending: Coroutine[Any, Any, UpstreamResponse]) -> UpstreamResponse:
    """Return the stream once its first content is there; cancel the attempt, which closes its connection, if that takes
    longer. Only for streams: a response that comes as a whole has no first token to wait for.

    Raises:
        ProviderTimeout: there was none in time; like every timeout it is not retried, but falls back.
    """
    try:
        async with asyncio.timeout(seconds) as limit:
            return await sending
    except TimeoutError:
        if not limit.expired():
            raise
        raise timed_out(f"no content within {seconds:g} s (first_token_seconds)") from None
