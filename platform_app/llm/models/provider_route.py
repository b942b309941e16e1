"""The innermost upstream: sends a call along one route, with the provider's adapter and credential."""

import asyncio
import time
from collections.abc import Coroutine
from functools import partial
from typing import Any, NoReturn

from platform_app.errors import PlatformError, ProviderAuthFailed
from platform_app.llm.chunk_stream import ChunkStream, StreamObserver
from platform_app.llm.errors import CountingUnsupported, make_error, mask_credential, timed_out
from platform_app.llm.interfaces import Credentials, ModelAdapter, UpstreamResponse
from platform_app.llm.models.route import Route
from platform_app.llm.models.stored_state import require_stored_state
from platform_app.llm.requests import ModelCall, Operation, UpstreamCall
from platform_app.llm.translation.field_names.client_fields import TranslatingAdapter, name_client_fields
from platform_app.observability import ids
from platform_app.observability.logging import get_logger
from platform_app.observability.record import MAX_MESSAGE, OK, SECRET, AttemptRecord
from platform_app.observability.request.provider_call import ProviderCall
from platform_app.observability.tracing.trace_context import child_traceparent

_log = get_logger("providers")


class ProviderRoute:
    """Sends a call along one route. Each attempt is counted, timed and recorded in the attempt log."""

    def __init__(self, route: Route, adapter: ModelAdapter, credentials: Credentials) -> None:
        self.route = route
        self._adapter = adapter
        self._credentials = credentials

    async def send(self, call: ModelCall) -> UpstreamResponse:
        """See Upstream.send. If the provider refuses the credential, look it up again, and retry once if it changed."""
        name = self.route.secret_name
        if call.operation is Operation.COUNT_TOKENS and not self.route.counts_tokens:
            self._refuse_counting(call)
        call.attempt_log.route = self.route
        require_stored_state(self.route, call)
        if name is None:
            return await self._attempt(call, None)
        began = time.perf_counter()
        credential = await self._credentials.get(name)
        call.attempt_log.record.hops.append((SECRET, began, time.perf_counter(), OK))
        try:
            return await self._attempt(call, credential)
        except ProviderAuthFailed:
            refreshed = await self._credentials.refresh(name, credential)
            if refreshed == credential:
                raise
        return await self._attempt(call, refreshed)

    def _refuse_counting(self, call: ModelCall) -> NoReturn:
        """Raise CountingUnsupported, or UnsupportedByProvider for a request that the provider would not get either."""
        attempt = UpstreamCall(
            self.route.upstream_model, call.body, 0.0, capabilities=self.route.capabilities, format=call.format
        )
        if isinstance(self._adapter, TranslatingAdapter):
            try:
                self._adapter.translate(attempt)
            except PlatformError as error:
                name_client_fields(error, attempt, self._adapter)
                raise
        raise make_error(CountingUnsupported, "this provider does not count tokens")

    async def _attempt(self, call: ModelCall, credential: str | None) -> UpstreamResponse:
        route = self.route
        left = max(0.0, call.deadline - asyncio.get_running_loop().time())
        seconds = left if route.timeout_seconds is None else min(left, route.timeout_seconds)
        record = AttemptRecord(
            route.provider, route.public_model, route.upstream_model, call.operation.value, call.stream,
            time.perf_counter(), ids.span_id(),
        )  # fmt: skip
        record.label = route.template
        body = call.body
        record.max_tokens = body.get("max_completion_tokens") or body.get("max_tokens") or body.get("max_output_tokens")
        record.temperature = body.get("temperature")
        log = call.attempt_log
        trace_headers = {} if log.trace is None else {"traceparent": child_traceparent(log.trace, record.span_id)}
        attempt = UpstreamCall(
            route.upstream_model, call.body, seconds, call.operation, call.stream, trace_headers,
            route.capabilities, record, call.format, call.headers,
        )  # fmt: skip
        log.attempt(route)
        log.record.attempts.append(record)
        provider_call = ProviderCall(record)
        sending = self._adapter.send(attempt, credential)
        if call.stream and route.first_token_seconds is not None:
            sending = _with_content_within(route.first_token_seconds, sending)
        try:
            response = await sending
        except BaseException as error:
            if isinstance(error, PlatformError):
                error.tries = log.fail(route)
            self._note(error, credential, attempt, record)
            provider_call.end(error)
            raise
        if isinstance(response, ChunkStream):
            provider_call.first_chunk()
            record.response = response.head
            response.on_end(StreamObserver.FAILURE_LOG, lambda error: self._note(error, credential, attempt, record))
            response.on_end(StreamObserver.PROVIDER_METRICS, partial(_end_stream, response, record, provider_call))
        else:
            record.response = response.body
            record.finish_reason = response.finish_reason if call.operation is Operation.CHAT else None
            provider_call.end(None)
        return response

    def _note(
        self, error: BaseException | None, credential: str | None, call: UpstreamCall, record: AttemptRecord
    ) -> None:
        """Mask our credential in the error, name the client's fields in it, and log the provider's message if the
        caller does not get it."""
        mask_credential(error, credential)
        if isinstance(error, PlatformError):
            name_client_fields(error, call, self._adapter)
        if isinstance(error, PlatformError) and error.provider_message:
            record.message = error.provider_message[:MAX_MESSAGE]
            _log.warning(
                "provider_call_failed",
                provider=self.route.provider,
                model=self.route.upstream_model,
                code=error.code,
                status=record.status,
                upstream_request_id=record.upstream_request_id,
                provider_message=error.provider_message,
            )


def _end_stream(
    stream: ChunkStream, record: AttemptRecord, provider_call: ProviderCall, error: BaseException | None
) -> None:
    record.chunks, record.finish_reason = stream.chunks, stream.finish_reason
    provider_call.end(error)


async def _with_content_within(seconds: float, sending: Coroutine[Any, Any, UpstreamResponse]) -> UpstreamResponse:
    """Return the stream once its first content has arrived. If that takes too long, cancel the attempt, which closes
    its connection. Only for streams: a whole response has no first token.

    Raises:
        ProviderTimeout: no content arrived in time. Like every timeout it is not retried, but falls back.
    """
    try:
        async with asyncio.timeout(seconds) as limit:
            return await sending
    except TimeoutError:
        if not limit.expired():
            raise
        raise timed_out(f"no content within {seconds:g} s (first_token_seconds)") from None
