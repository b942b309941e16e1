"""OpenAI's Responses API: its clients need only another base URL and key."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from apps.platform_api.http.model.response import respond
from apps.platform_api.http.model.route import ModelRoute
from apps.platform_api.http.request_state import context_of, resources_of
from apps.platform_api.responses.contract import ResponsesContract
from apps.platform_api.responses.openapi import RESPONSES
from apps.platform_api.responses.requests import read_responses_body
from apps.platform_api.responses.stored import routes as stored
from apps.platform_api.responses.stored.ids import read_id
from apps.platform_api.responses.stored.signing import live_peppers, signer
from apps.platform_api.security.guard import Guard, LimitedBy
from platform_app.auth.caller import Caller
from platform_app.auth.permissions import Scope

router: APIRouter = stored.router


async def create_response(request: Request, caller: Caller) -> Response:
    """Call a model, as OpenAI's Responses API does. The response is one JSON object, or events with `"stream": true`.
    Nothing is stored unless the request asks for it with `"store": true`."""
    body = await read_responses_body(request)
    if not body.stored and body.previous is None:
        return await respond(request, caller, body.request(), ResponsesContract(context_of(request), body))
    peppers = await live_peppers(resources_of(request).peppers)
    before = None
    if body.previous is not None:
        before = read_id(body.previous, caller.owner, peppers, "previous_response_id")
    contract = ResponsesContract(context_of(request), body, signer(caller, peppers) if body.stored else None)
    return await respond(request, caller, body.request(before), contract)


MODEL_ROUTES = [
    ModelRoute("/v1/responses", Guard(Scope.CHAT, LimitedBy.CHAT_SERVICE), create_response, RESPONSES),
]
