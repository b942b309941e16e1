"""Our errors in OpenAI's shape, on the routes that OpenAI clients call.

Source: https://platform.openai.com/docs/guides/error-codes. The statuses and codes are ours, the same as on the
platform's own routes; OpenAI's clients choose their exception by the status.
"""

from typing import Any

from platform_app.errors import (
    CallerRefused,
    InsufficientScope,
    ModelNotAllowed,
    PlatformError,
    PriceUnknown,
    RateLimited,
    RequestRefused,
)
from platform_app.observability.context import RequestContext


def openai_error_body(error: PlatformError, context: RequestContext) -> dict[str, Any]:
    """`{"error": {"message", "type", "param", "code", "request_id"}}`; details become part of the message, for there is
    no field. The id is ours: clients that raise an error from a stream show nothing of the response's headers."""
    message = error.message
    if further := [detail for detail in error.details or () if detail not in message]:
        message = f"{message} {'; '.join(further)}"
    return {
        "error": {
            "message": message,
            "type": _type(error),
            "param": error.param,
            "code": error.code,
            "request_id": context.request_id,
        }
    }


def _type(error: PlatformError) -> str:
    match error:
        case InsufficientScope() | ModelNotAllowed() | PriceUnknown():
            return "permission_error"
        case CallerRefused():
            return "authentication_error"
        case RateLimited():
            return "rate_limit_error"
        case RequestRefused():
            return "invalid_request_error"
        case _:
            return "server_error"
