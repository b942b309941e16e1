"""The routes of API keys in the OpenAPI document."""

from typing import Any

from apps.platform_api.keys.schemas import (
    CreateKeyBody,
    KeyList,
    KeyView,
    KeyWithSecret,
    RevokeKeyBody,
    RotateKeyBody,
    UpdateKeyBody,
)
from apps.platform_api.openapi.components import GUARDED, WITH_BODY, error_responses, json_response, request_body
from platform_app import errors

_KEY = {
    "key_id": "x3Fp0aQm81Zz",
    "name": "billing bot",
    "owner": "billing",
    "environment": "live",
    "scopes": ["platform:chat"],
    "allowed_models": None,
    "limits": {"key-rpm": 120},
    "expires_at": None,
    "created_at": "2026-11-23T08:00:00+00:00",
    "created_by": "key:a8Kq2LmN04Yv",
    "revoked_at": None,
    "revoked_by": None,
    "revoked_reason": None,
    "last_used_at": None,
    "status": "active",
}
_REVOKED = _KEY | {
    "revoked_at": "2026-11-23T09:00:00+00:00",
    "revoked_by": "key:a8Kq2LmN04Yv",
    "revoked_reason": "the bot was retired",
    "status": "revoked",
}
_SECRET = {"key": "fbp_live_x3Fp0aQm81Zz_…", "api_key": _KEY}
_NEW = {"name": "billing bot", "owner": "billing", "scopes": ["platform:chat"], "limits": {"key-rpm": 120}}


def _route(summary: str, responses: dict[int | str, Any], *kinds: type[errors.PlatformError], **more: Any) -> Any:
    answers = {**responses, **error_responses(*GUARDED, *kinds)}
    return {"summary": summary, "tags": ["api keys"], "responses": answers, **more}


CREATE: dict[str, Any] = _route(
    "Create a key",
    {201: json_response("The key; its text is shown this once.", KeyWithSecret, _SECRET)},
    *WITH_BODY,
    status_code=201,
    openapi_extra=request_body(CreateKeyBody, example=_NEW),
)
LIST: dict[str, Any] = _route(
    "List keys",
    {200: json_response("A page of keys.", KeyList, {"data": [_KEY], "next_cursor": None})},
    errors.ValidationFailed,
)
SHOW: dict[str, Any] = _route(
    "Show a key", {200: json_response("The key.", KeyView, _KEY)}, errors.NotFound, errors.ValidationFailed
)
UPDATE: dict[str, Any] = _route(
    "Change a key",
    {200: json_response("The key as it is now.", KeyView, _KEY)},
    *WITH_BODY,
    errors.NotFound,
    errors.Conflict,
    openapi_extra=request_body(UpdateKeyBody, example={"limits": {"key-rpm": 240}}),
)
ROTATE: dict[str, Any] = _route(
    "Give a key a new secret",
    {200: json_response("The key; its new text is shown this once.", KeyWithSecret, _SECRET)},
    *WITH_BODY,
    errors.NotFound,
    errors.Conflict,
    openapi_extra=request_body(RotateKeyBody, example={"grace_period_seconds": 86400}),
)
REVOKE: dict[str, Any] = _route(
    "End a key",
    {200: json_response("The key, which is of no use now.", KeyView, _REVOKED)},
    *WITH_BODY,
    errors.NotFound,
    errors.Conflict,
    openapi_extra=request_body(RevokeKeyBody, example={"reason": "the bot was retired"}),
)
