"""Anthropic's contract: Anthropic's clients and Claude Code need only another base URL and key."""

import orjson
from fastapi import Request
from starlette.responses import Response

from apps.platform_api.http.disconnect import cancel_on_disconnect, disconnect_signal
from apps.platform_api.http.model.response import respond
from apps.platform_api.http.model.route import ModelRoute
from apps.platform_api.http.request_state import context_of, resources_of
from apps.platform_api.messages.contract import MessagesContract
from apps.platform_api.messages.openapi import COUNT_TOKENS, MESSAGES
from apps.platform_api.messages.requests import read_messages_body
from apps.platform_api.security.guard import Guard, LimitedBy
from platform_app.auth.caller import Caller
from platform_app.auth.permissions import Scope
from platform_app.llm.requests import Operation


async def messages(request: Request, caller: Caller) -> Response:
    """Call a model, as Anthropic's API does. The response is one JSON object, or events with `"stream": true`."""
    wanted = await read_messages_body(request)
    return await respond(request, caller, wanted, MessagesContract(context_of(request)))


async def count_tokens(request: Request, caller: Caller) -> Response:
    """Count the tokens of a request that is not sent to the model. It costs nothing, and counts as a request for the
    limits. The header `x-platform-token-count` says whether the provider counted, or the gateway estimated."""
    wanted = await read_messages_body(request, Operation.COUNT_TOKENS)
    counting = resources_of(request).chat.count_tokens(wanted, caller, context_of(request))
    count = await cancel_on_disconnect(disconnect_signal(request.scope, request.receive), counting)
    headers = {"x-platform-token-count": "estimate" if count.estimated else "provider"}
    return Response(orjson.dumps({"input_tokens": count.tokens}), 200, headers, "application/json")


MODEL_ROUTES = [
    ModelRoute("/v1/messages", Guard(Scope.CHAT, LimitedBy.CHAT_SERVICE), messages, MESSAGES),
    ModelRoute("/v1/messages/count_tokens", Guard(Scope.CHAT, LimitedBy.CHAT_SERVICE), count_tokens, COUNT_TOKENS),
]
