"""OpenAI's error answers as ours: the one table for every server that speaks its wire format, Azure's among them.

Sources: https://platform.openai.com/docs/guides/error-codes and
https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter for `innererror`.
"""

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
    ProviderUnavailable,
)
from platform_app.llm.provider_errors import error_object, kind_of_status, make_error, retry_after_of

_BY_CODE: Mapping[str, type[PlatformError]] = {
    "context_length_exceeded": ContextLengthExceeded,
    "string_above_max_length": ContextLengthExceeded,
    "content_filter": ContentFiltered,
    "content_policy_violation": ContentFiltered,
    "insufficient_quota": ProviderQuotaExhausted,
    "billing_hard_limit_reached": ProviderQuotaExhausted,
    "rate_limit_exceeded": ProviderRateLimited,
    "server_is_overloaded": ProviderUnavailable,
    "invalid_api_key": ProviderAuthFailed,
    "model_not_found": ProviderNotConfigured,
    "server_error": ProviderError,
    "ResponsibleAIPolicyViolation": ContentFiltered,  # Azure, in innererror
}


def error_from_response(status: int, headers: Mapping[str, str], body: bytes) -> PlatformError:
    """The error for an answer that is not a 200."""
    error = error_object(body)
    # A code never makes a 401 anything but the operator's to mend.
    kind = _by_code(error) if status in (400, 429, 500, 503) else None
    if kind is None and error.get("type") == "insufficient_quota":
        kind = ProviderQuotaExhausted
    return make_error(kind or kind_of_status(status), error.get("message"), retry_after_of(headers), error.get("param"))


def error_from_event(error: object) -> PlatformError:
    """The error for an `{"error": …}` object inside a stream or in a 200."""
    fields = error if isinstance(error, dict) else {}
    kind = _by_code(fields) or _BY_CODE.get(str(fields.get("type"))) or ProviderError
    return make_error(kind, fields.get("message"), param=fields.get("param"))


def _by_code(error: Mapping[str, object]) -> type[PlatformError] | None:
    code, inner = error.get("code"), error.get("innererror")
    if kind := _BY_CODE.get(str(code)):
        return kind
    if isinstance(inner, dict) and (kind := _BY_CODE.get(str(inner.get("code")))):
        return kind
    # OpenRouter and others put the status of their own upstream there.
    return kind_of_status(code) if isinstance(code, int) and 400 <= code <= 599 else None
