"""Anthropic's contract in the OpenAPI document. It has only the parts of the schemas that the gateway
reads."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from apps.platform_api.messages.errors import anthropic_status, error_type
from apps.platform_api.openai.openapi import HEADERS
from apps.platform_api.openapi.components import (
    GUARDED,
    MODEL_CALL,
    ONCE,
    REQUEST_ID,
    WITH_JSON,
    example_message,
    json_response,
    request_body,
    request_once,
)
from platform_app import errors


class AnthropicErrorDetails(BaseModel):
    """The gateway's own code."""

    error_code: str = Field(description="The same codes as on the platform's own routes.")


class AnthropicErrorBody(BaseModel):
    """What went wrong."""

    type: str
    message: str
    details: AnthropicErrorDetails


class AnthropicErrorResponse(BaseModel):
    """Every error of the routes in Anthropic's contract."""

    type: Literal["error"]
    error: AnthropicErrorBody
    request_id: str


class MessagesBody(BaseModel):
    """`POST /v1/messages`: Anthropic's request; fields that are not named here are forwarded as they are, but for those
    that could choose another model, provider, address or price: 400."""

    model_config = ConfigDict(extra="allow")

    model: str | None = Field(None, description="A model of the catalog; the platform's default without one.")
    max_tokens: int = Field(ge=0)
    messages: list[dict[str, Any]] = Field(min_length=1)
    stream: bool | None = None


class CountTokensBody(BaseModel):
    """`POST /v1/messages/count_tokens`: the same request without `max_tokens`."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    messages: list[dict[str, Any]] = Field(min_length=1)


class TokenCount(BaseModel):
    """The tokens of a request."""

    input_tokens: int


_MESSAGE = {
    "id": "msg_01XF", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
    "content": [{"type": "text", "text": "Hello!"}], "stop_reason": "end_turn", "stop_sequence": None,
    "usage": {"input_tokens": 9, "output_tokens": 4},
}  # fmt: skip
_EVENTS = (
    'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_01XF","type":"message",'
    '"role":"assistant","model":"claude-sonnet-4-5","content":[],"stop_reason":null,"stop_sequence":null,'
    '"usage":{"input_tokens":9,"output_tokens":0}}}\n\n'
    'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    '"content_block":{"type":"text","text":""}}\n\n'
    'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    '"delta":{"type":"text_delta","text":"Hello!"}}\n\n'
    'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},'
    '"usage":{"output_tokens":4}}\n\n'
    'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)
_QUESTION = {
    "model": "claude-sonnet-4-5", "max_tokens": 256, "messages": [{"role": "user", "content": "Say hello."}],
}  # fmt: skip
_HEADERS: dict[str, Any] = {
    "request-id": {"schema": {"type": "string"}, "description": "The same id as `x-request-id`."},
}


def anthropic_error_responses(*kinds: type[errors.PlatformError]) -> dict[int | str, dict[str, Any]]:
    """Return one response per status, with an example of each of these errors."""
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        message = example_message(kind)
        error = kind() if kind in (errors.MissingCredentials, errors.InvalidApiKey) else kind("platform:chat")
        response = responses.setdefault(
            anthropic_status(error),
            {
                "model": AnthropicErrorResponse,
                "description": "",
                "content": {"application/json": {"examples": {}}},
            },
        )
        response["description"] = ", ".join(filter(None, [response["description"], kind.code]))
        body = {"type": error_type(error), "message": message, "details": {"error_code": kind.code}}
        example = {"type": "error", "error": body, "request_id": REQUEST_ID}
        response["content"]["application/json"]["examples"][kind.code] = {"value": example}
    return responses


MESSAGES: dict[str, Any] = {
    "summary": "Ask a model, in Anthropic's contract",
    "tags": ["anthropic"],
    "operation_id": "messages",
    "responses": {
        200: {
            "description": "Anthropic's message; server-sent events where `stream` is true.",
            "headers": {**HEADERS, **_HEADERS},
            "content": {
                "application/json": {"schema": {"type": "object"}, "examples": {"complete": {"value": _MESSAGE}}},
                "text/event-stream": {
                    "schema": {"type": "string", "description": "Events until `message_stop`; or `error`."},
                    "examples": {"stream": {"value": _EVENTS}},
                },
            },
        },
        **anthropic_error_responses(*GUARDED, *WITH_JSON, *ONCE, errors.ValidationFailed, *MODEL_CALL),
    },
    "openapi_extra": request_once(MessagesBody, plain=_QUESTION),
}
COUNT_TOKENS: dict[str, Any] = {
    "summary": "Count the tokens of a request",
    "tags": ["anthropic"],
    "operation_id": "count_message_tokens",
    "responses": {
        200: {
            **json_response("The provider's count, or an estimate.", TokenCount, {"input_tokens": 9}),
            "headers": {
                **_HEADERS,
                "x-platform-token-count": {
                    "schema": {"type": "string", "enum": ["provider", "estimate"]},
                    "description": "Who counted.",
                },
            },
        },
        **anthropic_error_responses(
            *GUARDED, *WITH_JSON, errors.ValidationFailed, errors.ModelNotAllowed, errors.ModelNotFound,
            errors.ContextLengthExceeded, errors.ContentFiltered, errors.ProviderRejectedRequest,
        ),
    },
    "openapi_extra": request_body(
        CountTokensBody, plain={name: value for name, value in _QUESTION.items() if name != "max_tokens"}
    ),
}  # fmt: skip
