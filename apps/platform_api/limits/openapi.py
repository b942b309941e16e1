"""The limits route in the OpenAPI document."""

from typing import Any

from apps.platform_api.limits.schemas import LimitList
from apps.platform_api.openapi.components import GATEWAY, error_responses, json_response
from platform_app import errors

_EXAMPLE = {
    "route": "/v1/platform/chat",
    "model": "gpt-4o-mini",
    "data": [
        {
            "rule": "key-rpm",
            "scope": "key",
            "unit": "requests",
            "limit": 60,
            "window_seconds": 60,
            "window": None,
            "time_zone": None,
            "mode": "enforce",
            "own_limit": False,
            "applies": True,
            "why_not": None,
            "remaining": 41,
            "reset_seconds": 12.5,
        }
    ],
}

READ: dict[str, Any] = {
    "summary": "Read the limits of your key",
    "tags": ["limits"],
    "responses": {
        200: json_response("Every rule, with its remaining units.", LimitList, _EXAMPLE),
        **error_responses(
            errors.MissingCredentials,
            errors.InvalidApiKey,
            errors.ModelNotAllowed,
            errors.ModelNotFound,
            errors.ValidationFailed,
            *GATEWAY,
        ),
    },
}
