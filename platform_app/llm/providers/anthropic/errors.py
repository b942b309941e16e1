"""Turn Anthropic's error responses into ours. Source: https://docs.claude.com/en/api/errors.

`{"type": "error", "error": {"type", "message", "details": {"error_code"}}}`. Some errors that
a gateway must distinguish share one type and code; only for these the message decides. An error without one of these
types, from a proxy or a server that only resembles Anthropic's, is classified like one in OpenAI's format.
"""

import re
from collections.abc import Mapping

from platform_app.errors import (
    PlatformError,
    ProviderAuthFailed,
    ProviderError,
    ProviderNotConfigured,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRejectedRequest,
    ProviderTimeout,
    ProviderUnavailable,
)
from platform_app.llm.errors import UnsupportedByRoute, make_error, retry_after_of
from platform_app.llm.providers.error_body import ErrorBody, error_body_of, read_error_body
from platform_app.llm.providers.error_message import kind_by_message, names_object_of_request, says_cannot
from platform_app.llm.providers.openai.errors import kind_of_error

_BY_TYPE: Mapping[str, type[PlatformError]] = {
    "invalid_request_error": ProviderRejectedRequest,
    "request_too_large": ProviderRejectedRequest,
    "authentication_error": ProviderAuthFailed,
    "permission_error": ProviderAuthFailed,
    "not_found_error": ProviderNotConfigured,
    "billing_error": ProviderQuotaExhausted,
    "rate_limit_error": ProviderRateLimited,
    "api_error": ProviderError,
    "overloaded_error": ProviderUnavailable,
    "timeout_error": ProviderTimeout,
}
_BY_CODE: Mapping[str, type[PlatformError]] = {
    "contract_spend_limit_reached": ProviderQuotaExhausted,
    "enforced_spend_limit_reached": ProviderQuotaExhausted,
    "linked_organization_spend_limit_reached": ProviderQuotaExhausted,
    "linked_organization_billing_unavailable": ProviderQuotaExhausted,
    "organization_on_hold": ProviderAuthFailed,
}
_FIELD = re.compile(r"([a-z][a-z0-9_.]{0,99}): ")


def error_from_response(status: int, headers: Mapping[str, str], body: bytes) -> PlatformError:
    """Return the error for a response that is not a 200."""
    failure = read_error_body(headers, body)
    retry_after = retry_after_of(headers)
    # Whatever the type, a refused credential or an account without credit is not the caller's error.
    kind = _by_code(failure) if status in (401, 402, 403) else _kind(failure)
    kind = kind or kind_of_error(status, failure, has_retry_after=retry_after is not None)
    return make_error(kind, failure.message, retry_after, _field(failure))


def error_from_event(error: object) -> PlatformError:
    """Return the error in a 200 response or in an event of a stream."""
    failure = error_body_of(error)
    return make_error(_kind(failure) or kind_of_error(None, failure), failure.message, param=_field(failure))


def _field(failure: ErrorBody) -> str | None:
    """Return the field at the start of a message such as `messages.0.content: …`, by Anthropic's name."""
    named = _FIELD.match(failure.message or "")
    return named[1] if named else failure.field


def _by_code(failure: ErrorBody) -> type[PlatformError] | None:
    details = failure.fields.get("details")
    return _BY_CODE.get(str(details.get("error_code"))) if isinstance(details, dict) else None


def _kind(failure: ErrorBody) -> type[PlatformError] | None:
    if (kind := _by_code(failure)) is not None:
        return kind
    kind = _BY_TYPE.get(str(failure.fields.get("type")))
    if kind is ProviderRejectedRequest:
        return kind_by_message(failure.message) or kind
    if kind is ProviderNotConfigured:
        if says_cannot(failure.message):
            return UnsupportedByRoute
        return ProviderRejectedRequest if names_object_of_request(failure.message) else kind
    return kind
