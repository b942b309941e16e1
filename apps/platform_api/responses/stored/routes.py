"""Read and delete a stored response at the provider that has it."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from apps.platform_api.dependencies import ChatCallerDep, ContextDep, ResourcesDep
from apps.platform_api.http.disconnect import cancel_on_disconnect, disconnect_signal
from apps.platform_api.responses.json_members import Path as MemberPath
from apps.platform_api.responses.json_members import with_texts
from apps.platform_api.responses.stored.ids import StoredId, read_id, sign_id, unknown_response
from apps.platform_api.responses.stored.openapi import DELETE, READ
from apps.platform_api.responses.stored.signing import live_peppers
from platform_app.auth.caller import Caller
from platform_app.auth.pepper import Peppers
from platform_app.errors import ModelNotAllowed
from platform_app.llm.codecs import lenient_json
from platform_app.llm.errors import bad_response
from platform_app.llm.models.stored_state import StoredRoute
from platform_app.observability.context import RequestContext
from platform_app.resources import Resources

router = APIRouter()
_ResponseId = Annotated[str, Path(description="The id from a response whose request had `store: true`.")]


@router.get("/v1/responses/{response_id}", response_model=None, **READ)
async def read_response(
    response_id: _ResponseId, request: Request, caller: ChatCallerDep, context: ContextDep, resources: ResourcesDep
) -> Response:
    """Return a stored response of the key's owner."""
    stored, route, peppers = await _find(response_id, caller, context, resources)
    call = route.read(stored.response_id, resources.chat.deadline_seconds)
    raw = await cancel_on_disconnect(disconnect_signal(request.scope, request.receive), call)
    return _returned(raw, response_id, stored, peppers)


@router.delete("/v1/responses/{response_id}", response_model=None, **DELETE)
async def delete_response(
    response_id: _ResponseId, request: Request, caller: ChatCallerDep, context: ContextDep, resources: ResourcesDep
) -> Response:
    """Delete a stored response of the key's owner."""
    stored, route, peppers = await _find(response_id, caller, context, resources)
    call = route.delete(stored.response_id, resources.chat.deadline_seconds)
    raw = await cancel_on_disconnect(disconnect_signal(request.scope, request.receive), call)
    return _returned(raw, response_id, stored, peppers)


async def _find(
    response_id: str, caller: Caller, context: RequestContext, resources: Resources
) -> tuple[StoredId, StoredRoute, Peppers]:
    """Return the location of the response. Raises NotFound, or ModelNotAllowed if the key may not use its model."""
    peppers = await live_peppers(resources.peppers)
    stored = read_id(response_id, caller.owner, peppers)
    model = resources.models.find(stored.model)
    context.model = model.name
    if not model.is_allowed(caller.allowed_models):
        raise ModelNotAllowed(f"This API key may not use the model '{model.shown_name}'.")
    route = model.stored.get((stored.provider, stored.upstream_model))
    if route is None:  # the config file does not have the route any more
        raise unknown_response()
    context.provider, context.upstream_model = stored.provider, stored.upstream_model
    return stored, route, peppers


def _returned(raw: bytes | None, response_id: str, stored: StoredId, peppers: Peppers) -> Response:
    """Return the provider's object with the client's ids and model name. Raises NotFound if there is none."""
    if raw is None:
        raise unknown_response()
    try:
        body: Any = lenient_json.loads(raw)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise bad_response("the stored response is not a JSON object")
    texts: dict[MemberPath, str] = {}
    if isinstance(body.get("id"), str):
        texts["id",] = response_id
    if isinstance(body.get("model"), str):
        texts["model",] = stored.model
    if isinstance(previous := body.get("previous_response_id"), str):
        texts["previous_response_id",] = sign_id(replace(stored, response_id=previous), peppers)
    return Response(with_texts(raw, body, texts) if texts else raw, media_type="application/json")
