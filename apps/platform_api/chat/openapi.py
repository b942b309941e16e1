"""The chat route in the OpenAPI document."""

from typing import Any

from apps.platform_api.chat.schemas import ChatRequestBody, ChatResponse
from apps.platform_api.openapi.components import (
    GUARDED,
    MODEL_CALL,
    ONCE,
    REPLAYED,
    REQUEST_ID,
    WITH_BODY,
    error_responses,
    request_once,
)
from platform_app import errors

_USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13, "cached_tokens": 0}
_IDS = {
    "status": "ok",
    "id": "chatcmpl-9sX2",
    "request_id": REQUEST_ID,
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "provider": "openai",
    "model": "gpt-4o-mini",
}
_END = {"finish_reason": "stop", "usage": _USAGE, "conversation_id": "ticket-4711", "duration_ms": 412.7}
_COMPLETE = {**_IDS, "output": "Hello!", "message": {"role": "assistant", "content": "Hello!"}, **_END}
_EVENTS = (
    'event: delta\ndata: {"content":"Hel"}\n\nevent: delta\ndata: {"content":"lo!"}\n\n'
    'event: done\ndata: {"status":"ok","finish_reason":"stop","usage":{"total_tokens":13}}\n\n'
)


def _header(what: str) -> dict[str, Any]:
    return {"schema": {"type": "string"}, "description": what}


CHAT: dict[str, Any] = {
    "summary": "Ask a model",
    "tags": ["chat"],
    "operation_id": "chat",
    "responses": {
        200: {
            "model": ChatResponse,
            "description": "The response; server-sent events if `stream` is true.",
            "headers": {
                "RateLimit-Policy": _header("The tightest rule, with its quota and window."),
                "RateLimit": _header("The remaining units of that rule, and the seconds until it is reset."),
                **REPLAYED,
            },
            "content": {
                "application/json": {"examples": {"complete": {"value": _COMPLETE}}},
                "text/event-stream": {
                    "schema": {"type": "string", "description": "`delta` events, then one `done` or one `error`."},
                    "examples": {"stream": {"value": _EVENTS}},
                },
            },
        },
        **error_responses(
            *GUARDED,
            *WITH_BODY,
            *ONCE,
            errors.BudgetExceeded,
            *MODEL_CALL,
        ),
    },
    "openapi_extra": request_once(
        ChatRequestBody,
        prompt={"prompt": "Say hello."},
        messages={
            "model": "gpt-4o-mini",
            "messages": [
                {"role": "system", "content": "You are brief."},
                {"role": "user", "content": "Say hello."},
            ],
            "stream": True,
        },
    ),
}
