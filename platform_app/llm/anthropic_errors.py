"""Anthropic's error answers as ours. Source: https://docs.claude.com/en/api/errors.

`{"type": "error", "error": {"type", "message", "details": {"error_code"}}}`. Some things that a gateway must tell apart
have no type or code of their own; for these alone the message is read.
"""

import re
from collections.abc import Mapping

from platform_app.errors import (
    ContentFiltered,
    ContextLengthExceeded,
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
from platform_app.llm.provider_errors import error_object, kind_of_status, make_error, retry_after_of

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
_BY_WORDS: tuple[tuple[str, type[PlatformError]], ...] = (
    ("prompt is too long", ContextLengthExceeded),
    ("exceed context limit", ContextLengthExceeded),
    ("content filtering policy", ContentFiltered),
    ("credit balance is too low", ProviderQuotaExhausted),
    ("specified api usage limits", ProviderQuotaExhausted),
)
"""What an `invalid_request_error` says that is more than that."""
_FIELD = re.compile(r"([a-z][a-z0-9_.]{0,99}): ")
_STATUS_OVERLOADED = 529


def error_from_response(status: int, headers: Mapping[str, str], body: bytes) -> PlatformError:
    """The error for an answer that is not a 200."""
    error = error_object(body)
    kind = _kind(error)
    if kind is None:
        kind = ProviderUnavailable if status == _STATUS_OVERLOADED else kind_of_status(status)
    return make_error(kind, error.get("message"), retry_after_of(headers), _field(error))


def error_from_event(error: object) -> PlatformError:
    """The error for the `error` object of an event, or of a 200."""
    fields = error if isinstance(error, dict) else {}
    return make_error(_kind(fields) or ProviderError, fields.get("message"), param=_field(fields))


def _field(error: Mapping[str, object]) -> str | None:
    """The field that a message about one begins with: `messages.0.content: …`, under Anthropic's name for it."""
    named = _FIELD.match(str(error.get("message")))
    return named[1] if named else None


def _kind(error: Mapping[str, object]) -> type[PlatformError] | None:
    details = error.get("details")
    if isinstance(details, dict) and (kind := _BY_CODE.get(str(details.get("error_code")))):
        return kind
    kind = _BY_TYPE.get(str(error.get("type")))
    if kind is ProviderRejectedRequest:
        words = str(error.get("message")).lower()
        return next((more for part, more in _BY_WORDS if part in words), kind)
    return kind
