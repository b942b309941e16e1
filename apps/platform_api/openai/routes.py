"""OpenAI's contract: any OpenAI client works here with only its base URL and key changed."""

from typing import Annotated
from urllib.parse import unquote

import orjson
from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from apps.platform_api.dependencies import ContextDep, ModelsReaderDep, ResourcesDep
from apps.platform_api.http.model.response import respond
from apps.platform_api.http.model.route import ModelRoute
from apps.platform_api.http.request_state import context_of
from apps.platform_api.messages.models import anthropic_model, anthropic_models
from apps.platform_api.openai.openapi import COMPLETIONS, EMBEDDINGS, MODEL, MODELS
from apps.platform_api.openai.requests import read_openai_body
from apps.platform_api.openai.responses import OpenAIContract
from apps.platform_api.security.guard import Guard, LimitedBy
from platform_app.auth.caller import Caller
from platform_app.auth.permissions import Scope
from platform_app.errors import NotFound
from platform_app.llm.models.registry import ModelRegistry, ServedModel
from platform_app.llm.requests import Operation
from platform_app.observability.context import ClientContract

router = APIRouter()


async def chat_completions(request: Request, caller: Caller) -> Response:
    """Call a model, as OpenAI's API does. The response is one JSON object, or events with `"stream": true`."""
    body = await read_openai_body(request, Operation.CHAT)
    return await respond(request, caller, body.request, OpenAIContract(context_of(request), body.wants_usage))


async def embeddings(request: Request, caller: Caller) -> Response:
    """Return vectors of texts, as OpenAI's API does."""
    body = await read_openai_body(request, Operation.EMBEDDINGS)
    return await respond(request, caller, body.request, OpenAIContract(context_of(request)))


@router.get("/v1/models", response_model=None, **MODELS)
async def list_models(
    request: Request, caller: ModelsReaderDep, resources: ResourcesDep, context: ContextDep
) -> Response:
    """List the models that this key may use. With the header `anthropic-version` the list has Anthropic's shape, and
    Anthropic's `limit`, `after_id` and `before_id` choose a page."""
    allowed = resources.models.visible(caller.allowed_models)
    if context.contract is ClientContract.ANTHROPIC:
        return Response(orjson.dumps(anthropic_models(allowed, request.query_params)), media_type="application/json")
    listed = [_model_object(model) for model in allowed]
    return Response(orjson.dumps({"object": "list", "data": listed}), media_type="application/json")


@router.get("/v1/models/{model:path}", response_model=None, **MODEL)
async def show_model(
    caller: ModelsReaderDep,
    model: Annotated[str, Path(description="A public model name; it may hold slashes.")],
    resources: ResourcesDep,
    context: ContextDep,
) -> Response:
    """Return one model, if this key may use it; in Anthropic's shape with the header `anthropic-version`."""
    if not model:
        raise NotFound("There is nothing at this path. Use GET /v1/models, without a slash at the end.")
    # Clients encode the slashes of a model's name. The server leaves them encoded, since they separate no segments.
    found = _allowed(resources.models, unquote(model), caller)
    shown = anthropic_model(found) if context.contract is ClientContract.ANTHROPIC else _model_object(found)
    return Response(orjson.dumps(shown), media_type="application/json")


def _allowed(models: ModelRegistry, name: str, caller: Caller) -> ServedModel:
    """Return the model. Raises ModelNotFound also for a model that this key may not use, which the list omits too."""
    found = models.find(name, caller.allowed_models)
    if not found.is_allowed(caller.allowed_models):
        raise models.unknown(name, caller.allowed_models)
    return found


def _model_object(model: ServedModel) -> dict[str, object]:
    """Return the model as OpenAI's API does. `created` has no meaning here, but OpenAI's clients require a number."""
    owner = model.routes[0].provider
    return {"id": model.shown_name, "object": "model", "created": 0, "owned_by": owner, **model.metadata}


MODEL_ROUTES = [
    ModelRoute("/v1/chat/completions", Guard(Scope.CHAT, LimitedBy.CHAT_SERVICE), chat_completions, COMPLETIONS),
    ModelRoute("/v1/embeddings", Guard(Scope.EMBEDDINGS, LimitedBy.CHAT_SERVICE), embeddings, EMBEDDINGS),
]
