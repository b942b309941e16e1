"""Render every error as a response. No other module does.

An error is noted in the RequestContext first (`note_error`, for the access line and the access decision) and rendered
second; rendering changes nothing.
"""

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from apps.platform_api.http.middleware.unknown_paths import hint_for, methods_at
from apps.platform_api.http.request_state import context_of
from apps.platform_api.messages.errors import anthropic_error_body, anthropic_status
from apps.platform_api.openai.errors import openai_error_body
from platform_app.auth.keys.store import DATABASE_ERRORS
from platform_app.core_contracts import error_response
from platform_app.credential_forms import mask_credentials
from platform_app.db.failures import database_failure
from platform_app.errors import (
    AuthUnavailable,
    IdempotencyInFlight,
    InsufficientScope,
    InternalError,
    InvalidApiKey,
    InvalidRequest,
    MethodNotAllowed,
    MissingCredentials,
    NotFound,
    PlatformError,
    SecretError,
    UnsupportedMediaType,
    ValidationFailed,
)
from platform_app.observability.context import ClientContract, RequestContext
from platform_app.observability.logging import get_logger

_BY_STATUS: Mapping[int, type[PlatformError]] = {
    404: NotFound,
    405: MethodNotAllowed,
    415: UnsupportedMediaType,
}
_JSON_WORDS = {
    "dict_type": "Input should be an object",
    "model_type": "Input should be an object",
    "list_type": "Input should be a valid array",
}
"""Messages in JSON's terms: pydantic's own name Python types."""
_CHALLENGE = 'Bearer realm="flowbiz-platform"'
_MAX_DETAILS = 20
_MAX_PATH = 200  # a client can choose names of any length


_log = get_logger("http")


def install_error_handlers(app: FastAPI) -> None:
    """Render the gateway's errors, FastAPI's validation errors, and the router's 404 and 405."""

    async def on_platform_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, PlatformError)  # noqa: S101 - for mypy: registered for this class alone
        return note_and_render(error, context_of(request))

    async def on_validation_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - likewise
        return note_and_render(validation_failed(error.errors()), context_of(request))

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - likewise
        return note_and_render(_from_router(error, request), context_of(request))

    app.add_exception_handler(PlatformError, on_platform_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_http_exception)


def note_and_render(error: PlatformError, context: RequestContext) -> Response:
    """Note that the request ends with this error, and return its response."""
    context.note_error(error)
    return render(error, context)


def render(error: PlatformError, context: RequestContext) -> Response:
    """Return the response for this error."""
    status = error.status
    match context.contract:
        case ClientContract.OPENAI:
            body = openai_error_body(error, context)
        case ClientContract.ANTHROPIC:
            body, status = anthropic_error_body(error, context), anthropic_status(error)
        case _:
            body = error_body(error, context)
    # A message may repeat what the client sent: a model's name, a field of the body.
    return Response(mask_credentials(orjson.dumps(body)), status, _headers(error), "application/json")


def _headers(error: PlatformError) -> dict[str, str]:
    headers = {}
    match error:
        case MissingCredentials():
            headers["www-authenticate"] = _CHALLENGE
        case InvalidApiKey():
            headers["www-authenticate"] = f'{_CHALLENGE}, error="invalid_token"'
        case InsufficientScope():
            headers["www-authenticate"] = f'{_CHALLENGE}, error="insufficient_scope", scope="{error.scope}"'
        case MethodNotAllowed():
            headers["allow"] = ", ".join(error.allowed)
        case UnsupportedMediaType(compressed=True):
            headers["accept-encoding"] = "identity"
    if (wait := error.wait_seconds) is not None:
        headers["retry-after"] = str(max(1, math.ceil(wait)))
    if not error.should_retry:
        headers["x-should-retry"] = "false"  # OpenAI's generated clients would retry by themselves
    elif isinstance(error, IdempotencyInFlight):
        headers["x-should-retry"] = "true"
    return headers


def error_body(error: PlatformError, context: RequestContext) -> dict[str, Any]:
    """Return the error in the shape of the platform's own routes."""
    return error_response(error.code, error.message, context.request_id, error.details)


@asynccontextmanager
async def database_errors(what: str = "key store") -> AsyncIterator[None]:
    """Raise AuthUnavailable for what PostgreSQL raises while it is unavailable, and for a missing pepper.

    `what` names for the client what it cannot read or change now.
    """
    try:
        yield
    except (*DATABASE_ERRORS, SecretError) as error:
        why = str(error) if isinstance(error, SecretError) else str(database_failure(error))
        _log.warning("key_store_unavailable", store=what, error=why)
        raise AuthUnavailable(f"The {what} is unavailable. Try again shortly.", retry_after=2) from None


def validation_failed(items: Sequence[Mapping[str, Any]]) -> PlatformError:
    """Return pydantic's findings as one error. Each detail starts with the field's path, and no value is repeated."""
    for item in items:
        if item["type"] == "json_invalid":
            why = (item.get("ctx") or {}).get("error") or item["msg"]
            return InvalidRequest("The body is not valid JSON.", details=[str(why)])
    details = [f"{field_path(item['loc'])}: {message_of(item)}" for item in items[:_MAX_DETAILS]]
    return ValidationFailed("The request is not valid.", details=list(dict.fromkeys(details)))


def field_path(location: Sequence[Any]) -> str:
    """Return `messages[0].content` for ("body", "messages", 0, "@user", "content"). Union tags are left out."""
    path = ""
    if len(location) > 1 and location[0] in ("body", "query", "path", "header"):
        location = location[1:]
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not str(part).startswith("@"):
            path += f".{part}" if path else str(part)
    return path[:_MAX_PATH] or "body"


def message_of(item: Mapping[str, Any]) -> str:
    """Return pydantic's message, without its prefix for errors of the gateway's validators."""
    if item["type"] == "extra_forbidden":
        return "is not a field of this request"
    if item["type"] in _JSON_WORDS:
        return _JSON_WORDS[item["type"]]
    return str(item["msg"]).removeprefix("Value error, ")


def internal_error() -> InternalError:
    """Return the error for a bug. Its message only says where to look."""
    return InternalError("Something went wrong inside the platform. Quote the request id to your operator.")


def _from_router(error: HTTPException, request: Request) -> PlatformError:
    kind = _BY_STATUS.get(error.status_code)
    path, routes = request.scope["path"], request.app.routes
    if kind is NotFound:
        return NotFound(hint_for(path, routes))
    if kind is MethodNotAllowed:
        allowed = methods_at(path, routes)
        refused = MethodNotAllowed(f"This path accepts only {', '.join(allowed) or 'other methods'}.")
        refused.allowed = allowed
        return refused
    if kind is not None:
        return kind(HTTPStatus(error.status_code).phrase)
    return internal_error() if error.status_code >= 500 else InvalidRequest("The request is not valid.")
