"""Respond to a request for a model: once per Idempotency-Key, as JSON or as server-sent events.

All routes that call a model end here. A contract (the platform's, OpenAI's) writes what differs between them.
"""

import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Protocol

from fastapi import Request
from starlette.responses import Response

from apps.platform_api.http.disconnect import DisconnectSignal, cancel_on_disconnect
from apps.platform_api.http.idempotency.run_idempotent import run_idempotent
from apps.platform_api.http.model.session import session_of
from apps.platform_api.http.request_state import context_of, resources_of, send_of
from apps.platform_api.http.streaming import open_event_stream
from platform_app.auth.caller import Caller
from platform_app.chat import ChatResult
from platform_app.errors import PlatformError
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.errors import failure_of_reading
from platform_app.llm.requests import ModelRequest
from platform_app.llm.responses import ModelResponse
from platform_app.observability.record import OK, PARSE, RECEIVE


class Contract(Protocol):
    """Writes a model's response in the shape that one request's client expects."""

    def whole(self, result: ChatResult, response: ModelResponse) -> Response:
        """Return the JSON response."""
        ...

    def events(self, result: ChatResult, chunks: ChunkStream) -> AsyncGenerator[bytes, None]:
        """Yield the events of a stream. A failure before the first event is raised; a later one becomes an event."""
        ...

    def error_event(self, error: PlatformError) -> bytes:
        """Return the event that ends a failed stream."""
        ...


async def respond(request: Request, caller: Caller, wanted: ModelRequest, contract: Contract) -> Response:
    """Return the response of a model. When the client disconnects the provider's call is cancelled, unless an
    Idempotency-Key lets it continue.

    Raises:
        PlatformError: see ChatService.send, run_idempotent and session_of.
        ClientDisconnected: the client disconnected before the response began.
    """
    context, resources = context_of(request), resources_of(request)
    if (session := session_of(request.scope)) is not None:
        wanted = replace(wanted, session=session)
    hops = context.record.hops
    if hops and hops[-1][0] == RECEIVE:  # the handler has parsed the body since
        hops.append((PARSE, hops[-1][2], time.perf_counter(), OK))

    async def open_events() -> AsyncGenerator[bytes, None]:
        result = await resources.chat.send(wanted, caller, context)
        assert isinstance(result.response, ChunkStream)  # noqa: S101 - for mypy: a stream was requested
        return contract.events(result, result.response)

    def error_event(error: PlatformError) -> bytes:
        context.note_error(error)
        return contract.error_event(error)

    async def work(client: DisconnectSignal) -> Response:
        if wanted.stream:
            seconds = resources.settings.stream_keep_alive_seconds
            return await open_event_stream(open_events, error_event, client, send_of(request), seconds)
        result = await cancel_on_disconnect(client, resources.chat.send(wanted, caller, context))
        assert isinstance(result.response, ModelResponse)  # noqa: S101 - for mypy: no stream was requested
        try:
            return contract.whole(result, result.response)
        except Exception as raised:  # noqa: BLE001 - converted, and logged if it is no PlatformError
            raise failure_of_reading(raised) from raised.__cause__

    return await run_idempotent(request, caller, context, wanted, work)
