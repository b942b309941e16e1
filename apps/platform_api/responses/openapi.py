"""The Responses API in the OpenAPI document. It has only the parts of the schemas that the gateway
reads."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from apps.platform_api.openai.openapi import CALL_ERRORS, HEADERS
from apps.platform_api.openapi.components import request_once


class ResponsesBody(BaseModel):
    """`POST /v1/responses`: OpenAI's request; fields that are not named here are forwarded as they are, but for those
    that could choose another model, provider, address or price: 400."""

    model_config = ConfigDict(extra="allow")

    model: str | None = Field(None, description="A model of the catalog; the platform's default without one.")
    input: str | list[dict[str, Any]] | None = Field(None, description="A text or items; required without a stored one")
    stream: bool | None = None
    store: bool | None = Field(None, description="Only true stores the response, at a provider that stores responses.")
    include: list[Any] | None = None
    previous_response_id: str | None = Field(None, description="The id of a stored response of the key's owner.")


_RESPONSE = {
    "id": "resp_9sX2", "object": "response", "created_at": 1764000000, "status": "completed", "model": "gpt-4o-mini",
    "output": [
        {
            "id": "msg_9sX2", "type": "message", "status": "completed", "role": "assistant",
            "content": [{"type": "output_text", "text": "Hello!", "annotations": []}],
        }
    ],
    "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    "usage": {
        "input_tokens": 9, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 13,
    },
}  # fmt: skip
_EVENTS = (
    'event: response.created\ndata: {"type":"response.created","sequence_number":0,"response":{"id":"resp_9sX2"}}\n\n'
    'event: response.completed\ndata: {"type":"response.completed","sequence_number":9,"response":{"id":"resp_9sX2"}}'
    "\n\n"
)
RESPONSES: dict[str, Any] = {
    "summary": "Ask a model, in OpenAI's Responses contract",
    "tags": ["openai"],
    "operation_id": "create_response",
    "responses": {
        200: {
            "description": "OpenAI's Response object; server-sent events where `stream` is true.",
            "headers": HEADERS,
            "content": {
                "application/json": {"schema": {"type": "object"}, "examples": {"complete": {"value": _RESPONSE}}},
                "text/event-stream": {
                    "schema": {
                        "type": "string",
                        "description": "Events; the last one is completed, incomplete or failed.",
                    },
                    "examples": {"stream": {"value": _EVENTS}},
                },
            },
        },
        **CALL_ERRORS,
    },
    "openapi_extra": request_once(ResponsesBody, plain={"model": "gpt-4o-mini", "input": "Say hello."}),
}
