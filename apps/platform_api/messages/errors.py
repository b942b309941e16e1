"""Write the gateway's errors in Anthropic's shape. Source: https://docs.claude.com/en/api/errors.

Anthropic's clients choose their exception and decide about a retry by the status and `x-should-retry`. The statuses are
the same as on the other routes, but for 529: it is Anthropic's status for an overload.
"""

from typing import Any

from platform_app.errors import (
    CallerRefused,
    Draining,
    InvalidApiKey,
    MissingCredentials,
    ModelNotFound,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    PlatformError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    RequestRefused,
)
from platform_app.observability.context import RequestContext

OVERLOADED = 529


def anthropic_error_body(error: PlatformError, context: RequestContext) -> dict[str, Any]:
    """Return `{"type": "error", "error": {"type", "message", "details"}, "request_id"}`. The gateway's
    code is `details.error_code`, and its details become part of the message."""
    message = error.message
    if further := [detail for detail in error.details or () if detail not in message]:
        message = f"{message} {'; '.join(further)}"
    return {
        "type": "error",
        "error": {"type": error_type(error), "message": message, "details": {"error_code": error.code}},
        "request_id": context.request_id,
    }


def anthropic_status(error: PlatformError) -> int:
    """Return the status of this error's response."""
    return OVERLOADED if error_type(error) == "overloaded_error" else error.status


def error_type(error: PlatformError) -> str:
    """Return Anthropic's type of this error."""
    match error:
        case MissingCredentials() | InvalidApiKey():
            return "authentication_error"
        case CallerRefused():
            return "permission_error"
        case RateLimited():
            return "rate_limit_error"
        case NotFound() | ModelNotFound():
            return "not_found_error"
        case PayloadTooLarge():
            return "request_too_large"
        case RequestRefused():
            return "invalid_request_error"
        case Overloaded() | Draining() | ProviderUnavailable() | ProviderRateLimited():
            return "overloaded_error"
        case ProviderTimeout():
            return "timeout_error"
        case _:
            return "api_error"
