"""POST /v1/platform/chat."""

from fastapi import Request
from starlette.responses import Response

from apps.platform_api.chat.openapi import CHAT
from apps.platform_api.chat.responses import PlatformContract
from apps.platform_api.chat.schemas import ChatRequestBody
from apps.platform_api.http.body.json_body import read_json
from apps.platform_api.http.model.response import respond
from apps.platform_api.http.model.route import ModelRoute
from apps.platform_api.http.request_state import context_of
from apps.platform_api.security.guard import Guard, LimitedBy
from platform_app.auth.caller import Caller
from platform_app.auth.permissions import Scope
from platform_app.llm.requests import ModelRequest


async def chat(request: Request, caller: Caller) -> Response:
    """Call a model. The response is one JSON object, or server-sent events with `"stream": true`."""
    body = await read_json(request, ChatRequestBody)
    wanted = ModelRequest(body.model, body.upstream_body(), stream=body.stream)
    return await respond(request, caller, wanted, PlatformContract(context_of(request), body.conversation_id))


ROUTES = [ModelRoute("/v1/platform/chat", Guard(Scope.CHAT, LimitedBy.CHAT_SERVICE), chat, CHAT)]
