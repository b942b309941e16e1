"""Building blocks of the document: responses with examples, and bodies that FastAPI does not parse."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from apps.platform_api.chat.schemas import ErrorResponse
from platform_app import errors

REF = "#/components/schemas/{model}"
REQUEST_ID = "5f0c9b7a4b0e4f5f9d7f3b0a6d0f2c11"

_EXAMPLE_MESSAGES: Mapping[type[errors.PlatformError], str] = {
    errors.InvalidRequest: "The body is not valid JSON.",
    errors.ContextLengthExceeded: "The request is longer than the model's context. Shorten it or lower max_tokens.",
    errors.ContentFiltered: "The provider's content policy refused this request.",
    errors.ProviderRejectedRequest: "The provider refused this request as invalid.",
    errors.ModelNotFound: "Model 'gpt-9' does not exist. GET /v1/models lists the models that this key may use.",
    errors.ModelNotAllowed: "This API key may not use the model 'gpt-4o'.",
    errors.PriceUnknown: (
        "The budget 'usd' applies, and the price of the model 'in-house' is not known (vllm/qwen). Use another model, "
        "or ask your platform operator for a price of the route, or for on_no_price in the rule."
    ),
    errors.PayloadTooLarge: "The body is larger than 10485760 bytes.",
    errors.UnsupportedMediaType: "Send the body as JSON, with the header 'Content-Type: application/json'.",
    errors.ValidationFailed: "The request is not valid.",
    errors.HeadersTooLarge: "The headers are larger than 32768 bytes together.",
    errors.RateLimited: "The rate limit 'key-rpm' is reached. Try again in 12 s.",
    errors.IdempotencyInFlight: (
        "The first request with this Idempotency-Key is still running. Try again shortly for its response."
    ),
    errors.IdempotencyUnavailable: (
        "Idempotency keys cannot be checked right now, so nothing was done. Try again shortly, or without the header "
        "Idempotency-Key."
    ),
    errors.BudgetExceeded: "The budget 'owner-daily-usd' is reached. Try again in 5001 s.",
    errors.AuthUnavailable: "API keys cannot be verified right now. Try again shortly.",
    errors.LimiterUnavailable: "The rate limiter is unavailable right now. Try again shortly.",
    errors.ProviderNotConfigured: "The provider has no usable credential, or no such model. Contact your operator.",
    errors.Overloaded: "This instance is at its limit of concurrent requests. Try again shortly.",
    errors.NotFound: "There is no API key with the id 'x3Fp0aQm81Zz'.",
    errors.Conflict: "The key x3Fp0aQm81Zz was revoked at 2026-11-23T08:00:00+00:00, which is final.",
    errors.Draining: "This instance is shutting down. Try again.",
    errors.ProviderError: "The provider failed to process this request.",
    errors.ProviderBadResponse: "The provider's response was not valid.",
    errors.ProviderAuthFailed: "The provider refused the platform's credential. Contact your platform operator.",
    errors.ProviderUnavailable: "The provider is unavailable right now. Try again shortly.",
    errors.ProviderRateLimited: "The provider is limiting the platform's requests. Try again shortly.",
    errors.ProviderQuotaExhausted: "The platform's quota at the provider is used up. Contact your platform operator.",
    errors.ProviderTimeout: "The provider did not respond in time.",
    errors.InternalError: "Something went wrong inside the platform. Quote the request id to your operator.",
}


def example_message(kind: type[errors.PlatformError]) -> str:
    """Return a message that such an error may have."""
    match kind:
        case errors.MissingCredentials | errors.InvalidApiKey:
            return kind().message
        case errors.InsufficientScope:
            return kind("platform:chat").message
        case _:
            return _EXAMPLE_MESSAGES[kind]


def _example(kind: type[errors.PlatformError]) -> dict[str, Any]:
    return {"value": {"error": {"code": kind.code, "message": example_message(kind), "request_id": REQUEST_ID}}}


def _openai_example(kind: type[errors.PlatformError]) -> dict[str, Any]:
    message = _example(kind)["value"]["error"]["message"]
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": kind.code}
    return {"value": {"error": error}}


def error_responses(
    *kinds: type[errors.PlatformError], openai: type[BaseModel] | None = None
) -> dict[int | str, dict[str, Any]]:
    """One response per status, with an example of each of these errors; in OpenAI's shape with its model."""
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        response = responses.setdefault(
            kind.status,
            {
                "model": openai or ErrorResponse,
                "description": "",
                "content": {"application/json": {"examples": {}}},
            },
        )
        response["description"] = ", ".join(filter(None, [response["description"], kind.code]))
        response["content"]["application/json"]["examples"][kind.code] = (
            _openai_example(kind) if openai else _example(kind)
        )
    return responses


GATEWAY = (
    errors.RateLimited,
    errors.HeadersTooLarge,
    errors.InternalError,
    errors.AuthUnavailable,
    errors.LimiterUnavailable,
    errors.Overloaded,
    errors.Draining,
)
"""Errors of every route that a key can use, whatever the request."""
GUARDED = (errors.MissingCredentials, errors.InvalidApiKey, errors.InsufficientScope, *GATEWAY)
"""Errors of every guarded route."""
PROVIDER = (
    errors.ProviderError,
    errors.ProviderBadResponse,
    errors.ProviderAuthFailed,
    errors.ProviderNotConfigured,
    errors.ProviderUnavailable,
    errors.ProviderRateLimited,
    errors.ProviderQuotaExhausted,
    errors.ProviderTimeout,
)
"""Failures of a provider."""
MODEL_CALL = (
    errors.ContextLengthExceeded,
    errors.ContentFiltered,
    errors.ProviderRejectedRequest,
    errors.ModelNotAllowed,
    errors.PriceUnknown,
    errors.ModelNotFound,
    *PROVIDER,
)
"""Errors of every route that calls a model."""
WITH_JSON = (errors.InvalidRequest, errors.PayloadTooLarge, errors.UnsupportedMediaType)
"""Errors of every route that reads JSON."""
WITH_BODY = (*WITH_JSON, errors.ValidationFailed)
"""The same for a body of a declared shape."""

ONCE = (errors.Conflict, errors.IdempotencyInFlight, errors.IdempotencyUnavailable)
"""Additional errors of a route with an Idempotency-Key; ValidationFailed is another."""
IDEMPOTENCY_KEY: Mapping[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Your name for this request. A repeated request with the same body gets the stored response.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
}
REPLAYED: dict[str, Any] = {
    "idempotency-replayed": {
        "schema": {"type": "string", "const": "true"},
        "description": "The response is a replay: an earlier request had the same Idempotency-Key.",
    },
    "idempotency-unavailable": {
        "schema": {"type": "string", "const": "true"},
        "description": "The Idempotency-Key could not be checked, and the platform's policy allows the request then.",
    },
}


def json_response(description: str, model: type[BaseModel] | None, example: Mapping[str, Any]) -> dict[str, Any]:
    """A success with one example."""
    content: dict[str, Any] = {"examples": {"example": {"value": example}}}
    response: dict[str, Any] = {"description": description, "content": {"application/json": content}}
    if model is not None:
        response["model"] = model
    else:
        content["schema"] = {"type": "object"}
    return response


def request_once(model: type[BaseModel], **examples: Mapping[str, Any]) -> dict[str, Any]:
    """As request_body, for a route that takes an Idempotency-Key."""
    return {**request_body(model, **examples), "parameters": [IDEMPOTENCY_KEY]}


def request_body(model: type[BaseModel], **examples: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON body for `openapi_extra`; its schema is added by `install`."""
    content = {
        "schema": {"$ref": REF.format(model=model.__name__)},
        "examples": {name: {"value": value} for name, value in examples.items()},
    }
    return {"requestBody": {"required": True, "content": {"application/json": content}}}
