"""OpenAI's contract in the OpenAPI document. It has only the parts of the schemas that the gateway reads."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from apps.platform_api.openapi.components import (
    GUARDED,
    MODEL_CALL,
    ONCE,
    REPLAYED,
    WITH_BODY,
    error_responses,
    json_response,
    request_once,
)
from platform_app import errors


class OpenAIErrorBody(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = Field(None, description="The field that is wrong, where one is.")
    code: str = Field(description="The same codes as on the platform's own routes.")


class OpenAIErrorResponse(BaseModel):
    """Every error of the OpenAI-compatible routes."""

    error: OpenAIErrorBody


class ChatCompletionBody(BaseModel):
    """`POST /v1/chat/completions`: OpenAI's request; fields that are not named here are forwarded as they are, but for
    those that could choose another model, provider, address or price: 400."""

    model_config = ConfigDict(extra="allow")

    model: str | None = Field(None, description="A model of the catalog; the platform's default without one.")
    messages: list[dict[str, Any]] = Field(min_length=1)
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None


class EmbeddingsBody(BaseModel):
    """`POST /v1/embeddings`: OpenAI's request; fields that are not named here are forwarded as they are, but for
    those that could choose another model, provider, address or price: 400."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    input: str | list[Any] = Field(min_length=1)


class ModelPrice(BaseModel):
    """US dollars for a million tokens, as exact decimals."""

    input_usd_per_million: str | None = None
    output_usd_per_million: str | None = None
    cached_input_usd_per_million: str | None = Field(None, description="Read from the provider's cache.")
    cache_write_usd_per_million: str | None = Field(None, description="Written to it, where that has its own price.")
    tiered: bool | None = Field(None, description="True: these are the prices of the first tier.")


class ModelObject(BaseModel):
    """A model that the key may use."""

    id: str
    object: Literal["model"]
    created: int = Field(description="Always 0; OpenAI's clients want a number.")
    owned_by: str = Field(description="The provider of its first route.")
    kind: Literal["chat", "embedding"] = Field(description="What it is for.")
    context_window: int | None = Field(None, description="Tokens that it can read, where that is known.")
    max_output_tokens: int | None = Field(None, description="Tokens that it can write, where that is known.")
    price: ModelPrice | None = Field(None, description="Of its first route, where it is known.")
    capabilities: list[str] | None = Field(None, description="What every route of it can do, where that is known.")


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"]
    data: list[ModelObject]


_USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
_COMPLETION = {
    "id": "chatcmpl-9sX2", "object": "chat.completion", "created": 1764000000, "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}],
    "usage": _USAGE,
}  # fmt: skip
_EVENTS = (
    'data: {"id":"chatcmpl-9sX2","object":"chat.completion.chunk","created":1764000000,"model":"gpt-4o-mini",'
    '"choices":[{"index":0,"delta":{"content":"Hello!"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
_VECTORS = {
    "object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.0023, -0.0093]}],
    "model": "text-embedding-3-small", "usage": {"prompt_tokens": 2, "total_tokens": 2},
}  # fmt: skip
_MODEL = {
    "id": "gpt-4o-mini", "object": "model", "created": 0, "owned_by": "openai", "kind": "chat",
    "context_window": 128000,
    "price": {
        "input_usd_per_million": "0.15", "output_usd_per_million": "0.6", "cached_input_usd_per_million": "0.075",
    },
}  # fmt: skip
CALL_ERRORS = error_responses(*GUARDED, *WITH_BODY, *ONCE, *MODEL_CALL, openai=OpenAIErrorResponse)
"""The errors of every route of OpenAI's that calls a model."""
_WHO_ANSWERED = {
    "x-platform-provider": "Who answered.",
    "x-platform-model": "The model's name there.",
    "x-platform-attempts": "Calls that it took, retries and fallbacks included.",
}
HEADERS: dict[str, Any] = {
    **{name: {"schema": {"type": "string"}, "description": what} for name, what in _WHO_ANSWERED.items()},
    **REPLAYED,
}
"""The response headers of every route that calls a model."""

COMPLETIONS: dict[str, Any] = {
    "summary": "Ask a model, in OpenAI's contract",
    "tags": ["openai"],
    "operation_id": "chat_completions",
    "responses": {
        200: {
            "description": "OpenAI's chat completion; server-sent events where `stream` is true.",
            "headers": HEADERS,
            "content": {
                "application/json": {"schema": {"type": "object"}, "examples": {"complete": {"value": _COMPLETION}}},
                "text/event-stream": {
                    "schema": {"type": "string", "description": "Chunks, then `[DONE]`; or an event with an error."},
                    "examples": {"stream": {"value": _EVENTS}},
                },
            },
        },
        **CALL_ERRORS,
    },
    "openapi_extra": request_once(
        ChatCompletionBody,
        plain={"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello."}]},
    ),
}
EMBEDDINGS: dict[str, Any] = {
    "summary": "Vectors of texts, in OpenAI's contract",
    "tags": ["openai"],
    "operation_id": "embeddings",
    "responses": {
        200: {**json_response("OpenAI's list of embeddings.", None, _VECTORS), "headers": HEADERS},
        **CALL_ERRORS,
    },
    "openapi_extra": request_once(EmbeddingsBody, plain={"model": "text-embedding-3-small", "input": "Hello."}),
}
MODELS: dict[str, Any] = {
    "summary": "The models that this key may use",
    "tags": ["openai"],
    "operation_id": "list_models",
    "responses": {
        200: json_response("By name.", ModelList, {"object": "list", "data": [_MODEL]}),
        **error_responses(*GUARDED, openai=OpenAIErrorResponse),
    },
}
MODEL: dict[str, Any] = {
    "summary": "One model",
    "tags": ["openai"],
    "operation_id": "show_model",
    "responses": {
        200: json_response("The model.", ModelObject, _MODEL),
        **error_responses(*GUARDED, errors.ModelNotFound, errors.ValidationFailed, openai=OpenAIErrorResponse),
    },
}
