"""POST /v1/platform/chat."""

from collections.abc import AsyncGenerator
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response
from starlette.types import Receive

from apps.platform_api.chat.openapi import CHAT
from apps.platform_api.chat.responses import answer_events, error_event, json_answer
from apps.platform_api.chat.schemas import ChatRequestBody
from apps.platform_api.dependencies import CallerDep, ChatServiceDep, ContextDep, keep_alive_seconds_of, send_of
from apps.platform_api.http.body.json_body import json_body
from apps.platform_api.http.disconnect import cancel_on_disconnect
from apps.platform_api.http.idempotency.run_idempotent import run_idempotent
from apps.platform_api.http.streaming.sse import open_event_stream
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.requests import ModelRequest
from platform_app.llm.responses import ModelResponse

router = APIRouter()

ChatBody = Annotated[ChatRequestBody, Depends(json_body(ChatRequestBody))]


@router.post("/v1/platform/chat", response_model=None, **CHAT)
async def chat(
    caller: CallerDep, body: ChatBody, chat: ChatServiceDep, context: ContextDep, request: Request
) -> Response:
    """Ask a model: one JSON answer, or server-sent events with `"stream": true`."""

    asked = ModelRequest(body.model, body.upstream_body(), stream=body.stream)

    async def events() -> AsyncGenerator[bytes, None]:
        served = await chat.send(asked, caller, context)
        assert isinstance(served.answer, ChunkStream)  # noqa: S101 - for mypy: a stream was asked for
        return answer_events(served, served.answer, context, body.conversation_id)

    async def answer(receive: Receive) -> Response:
        if asked.stream:
            failure, seconds = partial(error_event, context=context), keep_alive_seconds_of(request)
            return await open_event_stream(events, failure, receive, send_of(request), seconds)
        served = await cancel_on_disconnect(receive, chat.send(asked, caller, context))
        assert isinstance(served.answer, ModelResponse)  # noqa: S101 - for mypy: nothing else answers without stream
        return json_answer(served, served.answer, context, body.conversation_id)

    return await run_idempotent(request, caller, context, asked, answer)
