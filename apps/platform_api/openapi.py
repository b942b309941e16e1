"""The OpenAPI document: what each route takes and gives, with an example for every success and every error."""

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from apps.platform_api.contract import ChatRequestBody, ChatResponse, ErrorResponse
from apps.platform_api.guards import api_routes, guard_of
from platform_app import errors

DESCRIPTION = "The guarded gateway in front of LLM providers. Errors are `{error: {code, message, request_id}}`."

_REF = "#/components/schemas/{model}"
_REQUEST_ID = "5f0c9b7a4b0e4f5f9d7f3b0a6d0f2c11"

_EXAMPLE_MESSAGES: Mapping[type[errors.PlatformError], str] = {
    errors.InvalidRequest: "The body is not valid JSON.",
    errors.ContextLengthExceeded: "The request is longer than the model's context. Shorten it or lower max_tokens.",
    errors.ContentFiltered: "The provider's content policy refused this request.",
    errors.ProviderRejectedRequest: "The provider refused this request as invalid.",
    errors.ModelNotFound: "There is no model 'gpt-9' here. Ask your operator which models are served.",
    errors.ModelNotAllowed: "This API key may not use the model 'gpt-4o'.",
    errors.PayloadTooLarge: "The body is larger than 10485760 bytes.",
    errors.UnsupportedMediaType: "Send the body as JSON, with the header 'Content-Type: application/json'.",
    errors.ValidationFailed: "The request is not valid.",
    errors.HeadersTooLarge: "The headers are larger than 32768 bytes together.",
    errors.RateLimited: "The rate limit 'key-rpm' is reached. Try again in 12 s.",
    errors.AuthUnavailable: "API keys cannot be verified right now. Try again shortly.",
    errors.LimiterUnavailable: "The rate limiter cannot be reached right now. Try again shortly.",
    errors.ProviderNotConfigured: "The provider 'openai' has no usable credential. This is the operator's to mend.",
    errors.Overloaded: "This instance is at its limit of concurrent requests. Try again shortly.",
    errors.Draining: "This instance is shutting down. Try again.",
    errors.ProviderError: "The provider failed to answer this request.",
    errors.ProviderBadResponse: "The provider's answer was not understood.",
    errors.ProviderAuthFailed: "The provider refused the platform's credential. This is the operator's to mend.",
    errors.ProviderUnavailable: "The provider is unavailable right now. Try again shortly.",
    errors.ProviderRateLimited: "The provider is limiting the platform's requests. Try again shortly.",
    errors.ProviderQuotaExhausted: ("The platform's quota at the provider is used up. This is the operator's to mend."),
    errors.ProviderTimeout: "The provider did not answer in time.",
    errors.InternalError: "Something went wrong inside the platform. Quote the request id to your operator.",
}


def _example(kind: type[errors.PlatformError]) -> dict[str, Any]:
    match kind:
        case errors.MissingCredentials | errors.InvalidApiKey:
            message = kind().message
        case errors.InsufficientScope:
            message = kind("platform:chat").message
        case _:
            message = _EXAMPLE_MESSAGES[kind]
    return {"value": {"error": {"code": kind.code, "message": message, "request_id": _REQUEST_ID}}}


def _error_responses(*kinds: type[errors.PlatformError]) -> dict[int | str, dict[str, Any]]:
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        response = responses.setdefault(
            kind.status,
            {
                "model": ErrorResponse,
                "description": "",
                "content": {"application/json": {"examples": {}}},
            },
        )
        response["description"] = ", ".join(filter(None, [response["description"], kind.code]))
        response["content"]["application/json"]["examples"][kind.code] = _example(kind)
    return responses


_USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13, "cached_tokens": 0}
_IDS = {
    "status": "ok",
    "id": "chatcmpl-9sX2",
    "request_id": _REQUEST_ID,
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "provider": "openai",
    "model": "gpt-4o-mini",
}
_END = {"finish_reason": "stop", "usage": _USAGE, "conversation_id": None, "duration_ms": 412.7}
_COMPLETE = {**_IDS, "output": "Hello!", "message": {"role": "assistant", "content": "Hello!"}, **_END}
_EVENTS = (
    'event: delta\ndata: {"content":"Hel"}\n\nevent: delta\ndata: {"content":"lo!"}\n\n'
    'event: done\ndata: {"status":"ok","finish_reason":"stop","usage":{"total_tokens":13}}\n\n'
)

CHAT: dict[str, Any] = {
    "summary": "Ask a model",
    "tags": ["chat"],
    "operation_id": "chat",
    "responses": {
        200: {
            "model": ChatResponse,
            "description": "The answer; server-sent events where `stream` is true.",
            "headers": {
                name: {"schema": {"type": "string"}, "description": what}
                for name, what in {
                    "RateLimit-Policy": "The tightest rule, its quota and window.",
                    "RateLimit": "What is left of it, and the seconds until more comes back.",
                }.items()
            },
            "content": {
                "application/json": {"examples": {"complete": {"value": _COMPLETE}}},
                "text/event-stream": {
                    "schema": {"type": "string", "description": "`delta` events, then one `done` or one `error`."},
                    "examples": {"stream": {"value": _EVENTS}},
                },
            },
        },
        **_error_responses(
            errors.InvalidRequest,
            errors.ContextLengthExceeded,
            errors.ContentFiltered,
            errors.ProviderRejectedRequest,
            errors.MissingCredentials,
            errors.InvalidApiKey,
            errors.InsufficientScope,
            errors.ModelNotAllowed,
            errors.ModelNotFound,
            errors.PayloadTooLarge,
            errors.UnsupportedMediaType,
            errors.ValidationFailed,
            errors.RateLimited,
            errors.HeadersTooLarge,
            errors.InternalError,
            errors.ProviderError,
            errors.ProviderBadResponse,
            errors.ProviderAuthFailed,
            errors.AuthUnavailable,
            errors.LimiterUnavailable,
            errors.ProviderNotConfigured,
            errors.ProviderUnavailable,
            errors.ProviderRateLimited,
            errors.ProviderQuotaExhausted,
            errors.Overloaded,
            errors.Draining,
            errors.ProviderTimeout,
        ),
    },
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": _REF.format(model=ChatRequestBody.__name__)},
                    "examples": {
                        "prompt": {"value": {"prompt": "Say hello."}},
                        "messages": {
                            "value": {
                                "model": "gpt-4o-mini",
                                "messages": [
                                    {"role": "system", "content": "You are brief."},
                                    {"role": "user", "content": "Say hello."},
                                ],
                                "stream": True,
                            }
                        },
                    },
                }
            },
        }
    },
}


def _json(description: str, example: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"type": "object"}, "examples": {"example": {"value": example}}}},
    }


_RUNTIME = {"service": "flowbiz-ai-platform", "environment": "production", "version": "0.1.0", "build_sha": "3f2a91c"}

HEALTH: dict[str, Any] = {
    "tags": ["system"],
    "responses": {
        200: _json("The process runs.", {"status": "ok", "service": "flowbiz-ai-platform", "version": "0.1.0"})
    },
}
READY: dict[str, Any] = {
    "tags": ["system"],
    "responses": {
        200: _json(
            "Send traffic here.",
            {
                "status": "ready",
                "checks": [{"name": "database", "ok": True, "required": False, "detail": "answers"}],
            },
        ),
        503: _json("Do not: draining, or a required part is down.", {"status": "draining", "checks": []}),
    },
}
META: dict[str, Any] = {
    "tags": ["system"],
    "responses": {
        200: _json(
            "What runs here.",
            {
                **_RUNTIME,
                "runtime": _RUNTIME,
                "core": {"pinned": "0.2.0", "installed": None, "compatible": None},
            },
        )
    },
}


def install_openapi(app: FastAPI) -> None:
    """Make `app.openapi()` complete: the bodies that FastAPI does not parse itself, and who may call what."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        if "securitySchemes" not in document["components"]:
            _add_schemas(document)
            _add_security(document, api_routes(app))
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _add_schemas(document: dict[str, Any]) -> None:
    _, schemas = models_json_schema([(ChatRequestBody, "validation")], ref_template=_REF)
    document["components"]["schemas"].update(schemas["$defs"])


def _add_security(document: dict[str, Any], routes: Iterable[APIRoute]) -> None:
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "fbp_…"},
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for route in routes:
        guard = guard_of(route)
        for method in route.methods or ():
            operation = document["paths"].get(route.path, {}).get(method.lower())
            if operation is not None and guard is not None:
                operation["security"] = [{"bearer": []}, {"apiKey": []}]
                operation["description"] = f"{operation.get('description', '')}\n\nScope: `{guard.scope}`".strip()
