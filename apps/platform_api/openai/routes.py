"""OpenAI's contract: any OpenAI client works here with only its base URL and key changed."""

from collections.abc import AsyncGenerator
from functools import partial
from typing import Annotated
from urllib.parse import unquote

import orjson
from fastapi import APIRouter, Depends, Path, Request
from starlette.responses import Response
from starlette.types import Receive

from apps.platform_api.dependencies import (
    CallerDep,
    ChatServiceDep,
    ContextDep,
    EmbeddingsCallerDep,
    ModelsReaderDep,
    ResourcesDep,
    keep_alive_seconds_of,
    send_of,
)
from apps.platform_api.http.disconnect import cancel_on_disconnect
from apps.platform_api.http.idempotency.run_idempotent import run_idempotent
from apps.platform_api.http.streaming.sse import open_event_stream
from apps.platform_api.openai.openapi import COMPLETIONS, EMBEDDINGS, MODEL, MODELS
from apps.platform_api.openai.requests import OpenAIBody, openai_body
from apps.platform_api.openai.responses import completion_events, error_event, whole_answer
from platform_app.auth.caller import Caller
from platform_app.errors import NotFound
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.models.registry import ModelRegistry, ServedModel, unknown_model
from platform_app.llm.requests import Operation
from platform_app.llm.responses import ModelResponse

router = APIRouter()

CompletionsBody = Annotated[OpenAIBody, Depends(openai_body(Operation.CHAT))]
EmbeddingsBody = Annotated[OpenAIBody, Depends(openai_body(Operation.EMBEDDINGS))]


@router.post("/v1/chat/completions", response_model=None, **COMPLETIONS)
async def chat_completions(
    caller: CallerDep, body: CompletionsBody, chat: ChatServiceDep, context: ContextDep, request: Request
) -> Response:
    """Ask a model, as OpenAI's API does: one JSON answer, or events with `"stream": true`."""

    async def events() -> AsyncGenerator[bytes, None]:
        served = await chat.send(body.request, caller, context)
        assert isinstance(served.answer, ChunkStream)  # noqa: S101 - for mypy: a stream was asked for
        return completion_events(served, served.answer, body.wants_usage, context)

    async def answer(receive: Receive) -> Response:
        if body.request.stream:
            failure, seconds = partial(error_event, context=context), keep_alive_seconds_of(request)
            return await open_event_stream(events, failure, receive, send_of(request), seconds)
        served = await cancel_on_disconnect(receive, chat.send(body.request, caller, context))
        assert isinstance(served.answer, ModelResponse)  # noqa: S101 - for mypy: nothing else answers without stream
        return whole_answer(served, served.answer)

    return await run_idempotent(request, caller, context, body.request, answer)


@router.post("/v1/embeddings", response_model=None, **EMBEDDINGS)
async def embeddings(
    caller: EmbeddingsCallerDep, body: EmbeddingsBody, chat: ChatServiceDep, context: ContextDep, request: Request
) -> Response:
    """Vectors of texts, as OpenAI's API gives them."""

    async def answer(receive: Receive) -> Response:
        served = await cancel_on_disconnect(receive, chat.send(body.request, caller, context))
        assert isinstance(served.answer, ModelResponse)  # noqa: S101 - for mypy: nothing else answers without stream
        return whole_answer(served, served.answer)

    return await run_idempotent(request, caller, context, body.request, answer)


@router.get("/v1/models", response_model=None, **MODELS)
async def list_models(caller: ModelsReaderDep, resources: ResourcesDep) -> Response:
    """The models that this key may use."""
    allowed = [_model_object(model) for model in resources.models.models if caller.may_use(model.name)]
    return Response(orjson.dumps({"object": "list", "data": allowed}), media_type="application/json")


@router.get("/v1/models/{model:path}", response_model=None, **MODEL)
async def show_model(
    caller: ModelsReaderDep,
    model: Annotated[str, Path(description="A public model name; it may hold slashes.")],
    resources: ResourcesDep,
) -> Response:
    """One model, if this key may use it."""
    if not model:
        raise NotFound("There is nothing at this address. Use GET /v1/models, without a slash at the end.")
    # The server leaves encoded slashes as they are: they separate nothing. Clients encode those of a model's name.
    found = _allowed(resources.models, unquote(model), caller)
    return Response(orjson.dumps(_model_object(found)), media_type="application/json")


def _allowed(models: ModelRegistry, name: str, caller: Caller) -> ServedModel:
    """Raises ModelNotFound also for a model that is not for this key: a list does not tell of it either."""
    if not caller.may_use(name):
        raise unknown_model(name)
    return models.find(name)


def _model_object(model: ServedModel) -> dict[str, object]:
    """`created` says nothing here, but OpenAI's clients want a number."""
    return {"id": model.name, "object": "model", "created": 0, "owned_by": model.routes[0].provider, **model.metadata}
