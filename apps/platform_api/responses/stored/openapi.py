"""The routes of stored responses in the OpenAPI document."""

from typing import Any

from apps.platform_api.openai.openapi import OpenAIErrorResponse
from apps.platform_api.openapi.components import GUARDED, PROVIDER, error_responses, json_response
from platform_app import errors

_ERRORS = error_responses(
    *GUARDED,
    errors.NotFound,
    errors.ValidationFailed,
    errors.ModelNotFound,
    errors.ModelNotAllowed,
    errors.ProviderRejectedRequest,
    *PROVIDER,
    openai=OpenAIErrorResponse,
)
READ: dict[str, Any] = {
    "summary": "One stored response",
    "tags": ["openai"],
    "operation_id": "read_response",
    "responses": {
        200: json_response("The Response object.", None, {"id": "resp_9sX2", "object": "response"}),
        **_ERRORS,
    },
}
DELETE: dict[str, Any] = {
    "summary": "Delete a stored response",
    "tags": ["openai"],
    "operation_id": "delete_response",
    "responses": {
        200: json_response("It is deleted.", None, {"id": "resp_9sX2", "object": "response", "deleted": True}),
        **_ERRORS,
    },
}
