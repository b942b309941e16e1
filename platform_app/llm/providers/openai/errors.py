"""Turn OpenAI's error responses into ours: the one table for every server with its wire format, Azure included.

Sources: https://platform.openai.com/docs/guides/error-codes and
https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter for `innererror`. Codes and types of other
servers are in the same tables, with the server's name. Without code and type, the message decides (`error_message.py`).
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
from platform_app.llm.errors import (
    UnsupportedByRoute,
    kind_of_status,
    make_error,
    retry_after_of,
)
from platform_app.llm.providers.error_body import ErrorBody, error_body_of, read_error_body
from platform_app.llm.providers.error_message import (
    kind_by_message,
    names_object_of_request,
    says_above_limit,
    says_cannot,
    says_filtered,
    says_model_cannot,
    says_no_credit,
)

_BY_CODE: Mapping[str, type[PlatformError]] = {
    "context_length_exceeded": ContextLengthExceeded,
    "string_above_max_length": ContextLengthExceeded,
    "tokens_limit_reached": ContextLengthExceeded,  # GitHub Models
    "3051": ContextLengthExceeded,  # Mistral
    "content_filter": ContentFiltered,
    "content_policy_violation": ContentFiltered,
    "moderation_blocked": ContentFiltered,
    "data_inspection_failed": ContentFiltered,  # DashScope
    "1301": ContentFiltered,  # Zhipu
    "insufficient_quota": ProviderQuotaExhausted,
    "billing_hard_limit_reached": ProviderQuotaExhausted,
    "1113": ProviderQuotaExhausted,  # Zhipu
    "rate_limit_exceeded": ProviderRateLimited,
    "server_is_overloaded": ProviderUnavailable,
    "invalid_api_key": ProviderAuthFailed,
    "model_not_found": ProviderNotConfigured,
    "model_decommissioned": ProviderNotConfigured,  # Groq
    "model_not_available": ProviderNotConfigured,  # Together
    "OperationNotSupported": ProviderNotConfigured,  # Azure
    "Arrearage": ProviderQuotaExhausted,  # DashScope
    "server_error": ProviderError,
    "ResponsibleAIPolicyViolation": ContentFiltered,  # Azure, in innererror
}
_BY_TYPE: Mapping[str, type[PlatformError]] = {
    "insufficient_quota": ProviderQuotaExhausted,
    "exceeded_current_quota_error": ProviderQuotaExhausted,  # Moonshot
    "exceed_context_size_error": ContextLengthExceeded,  # llama.cpp
    "content_filter": ContentFiltered,  # Moonshot
    "invalid_model": ProviderNotConfigured,  # Mistral, Perplexity
}
"""Types that are more specific than a status."""
_BY_GENERAL_TYPE: Mapping[str, type[PlatformError]] = {
    "invalid_request_error": ProviderRejectedRequest,
    "BadRequestError": ProviderRejectedRequest,  # vLLM
    "UnprocessableEntityError": ProviderRejectedRequest,
    "validation_error": ProviderRejectedRequest,
    "authentication_error": ProviderAuthFailed,
    "permission_error": ProviderAuthFailed,
    "not_found_error": ProviderNotConfigured,
    "NotFoundError": ProviderNotConfigured,
    "tokens": ProviderRateLimited,
    "requests": ProviderRateLimited,
    "rate_limit_error": ProviderRateLimited,
    "rate_limit_reached_error": ProviderRateLimited,
    "overloaded_error": ProviderUnavailable,
    "service_unavailable_error": ProviderUnavailable,
    "engine_overloaded_error": ProviderUnavailable,
    "timeout_error": ProviderTimeout,
    "validation": ProviderRejectedRequest,  # TGI
    "overloaded": ProviderUnavailable,
    "ValidationException": ProviderRejectedRequest,  # Bedrock
    "ThrottlingException": ProviderRateLimited,
    "ServiceUnavailableException": ProviderUnavailable,
    "InvalidRequestError": ProviderRejectedRequest,
    "invalid_request": ProviderRejectedRequest,
    "Bad Request": ProviderRejectedRequest,
    "BadRequest": ProviderRejectedRequest,
    "ValueError": ProviderRejectedRequest,  # servers in Python
    "INVALID_ARGUMENT": ProviderRejectedRequest,  # Gemini
    "FAILED_PRECONDITION": ProviderRejectedRequest,
    "RESOURCE_EXHAUSTED": ProviderRateLimited,
    "UNAVAILABLE": ProviderUnavailable,
    "DEADLINE_EXCEEDED": ProviderTimeout,
    "UNAUTHENTICATED": ProviderAuthFailed,
    "PERMISSION_DENIED": ProviderAuthFailed,
    "NOT_FOUND": ProviderNotConfigured,
}
"""Types, and names of a status, that are as general as a status: used if there is no status, or a 500."""
_STATUS_NAMES = ("status_code", "statusCode", "status", "http_status_code", "http_code", "error_code")
_LONG_TEXT = re.compile(r"(?:input|prompt|messages)(?:[.\[\]\d]*|.*\b(?:content|text|output|arguments)\b.*)")
"""The fields whose length counts for the context; others are ids and names with shorter limits."""
_DELAY = re.compile(r"([\d.]{1,20})s")


def error_from_response(status: int, headers: Mapping[str, str], body: bytes) -> PlatformError:
    """Return the error for a response that is not a 200."""
    failure = read_error_body(headers, body)
    retry_after = retry_after_of(headers)
    if retry_after is None:
        retry_after = _delay_in(failure)
    kind = kind_of_error(status, failure, has_retry_after=retry_after is not None)
    return _made(kind, failure, retry_after)


def error_from_event(error: object) -> PlatformError:
    """Return the error in a 200 response or in an event of a stream."""
    failure = error_body_of(error)
    return _made(kind_of_error(None, failure), failure)


def kind_of_error(status: int | None, failure: ErrorBody, has_retry_after: bool = False) -> type[PlatformError]:
    """Return the error class. `status` is None for an error in a 200; `has_retry_after`: the provider named a time to
    retry.

    Code and type have precedence over the status, and the message decides the ambiguous rest. A status about our
    credential keeps its meaning, unless the error is about content or credit.
    """
    if status in (401, 403):
        return _kind_of_refused_credential(status, failure)
    kind = _by_code(failure.fields) if status in (None, 400, 413, 422, 429) or status >= 500 else None
    given = str(failure.fields.get("type") or failure.fields.get("error_type"))
    kind = kind or _BY_TYPE.get(given)
    if kind is None and status in (None, 500):
        named = _BY_GENERAL_TYPE.get(str(failure.fields.get("status")))
        kind = _BY_CODE.get(given) or _BY_GENERAL_TYPE.get(given) or named or _refused_by_field(failure)
    if kind is None:
        kind = ProviderError if status is None else kind_of_status(status)
    return _by_message(kind, status, failure, has_retry_after)


def _made(kind: type[PlatformError], failure: ErrorBody, retry_after: float | None = None) -> PlatformError:
    return make_error(kind, failure.message, retry_after, failure.fields.get("param") or failure.field)


def _kind_of_refused_credential(status: int, failure: ErrorBody) -> type[PlatformError]:
    """Return the class for a 401 or 403. A 401 is always for the operator to fix. A 403 may come from a content filter
    in front of the model."""
    if status == 403:
        metadata = failure.fields.get("metadata")
        if isinstance(metadata, dict) and metadata.get("reasons"):  # OpenRouter
            return ContentFiltered
        if _by_code(failure.fields) is ContentFiltered or says_filtered(failure.message):
            return ContentFiltered
        if says_no_credit(failure.message):
            return ProviderQuotaExhausted
    return ProviderAuthFailed


def _by_message(
    kind: type[PlatformError], status: int | None, failure: ErrorBody, has_retry_after: bool
) -> type[PlatformError]:
    message = failure.message
    if kind is ProviderRejectedRequest or (kind is ProviderError and status in (None, 500)):
        if status == 413 and says_above_limit(message):
            return UnsupportedByRoute
        return kind_by_message(message) or (UnsupportedByRoute if says_model_cannot(message) else kind)
    if kind is ProviderRateLimited:
        if says_above_limit(message):
            return UnsupportedByRoute
        return ProviderQuotaExhausted if not has_retry_after and says_no_credit(message) else kind
    if kind is ProviderNotConfigured:
        if says_cannot(message):
            return UnsupportedByRoute
        if failure.fields.get("param") not in (None, "", "model") or names_object_of_request(message):
            return ProviderRejectedRequest
    return kind


def _delay_in(failure: ErrorBody) -> float | None:
    """Return the seconds that Gemini's error names for the next try, which it does not repeat in a header."""
    details = failure.fields.get("details")
    for each in details[:20] if isinstance(details, list) else ():
        delay = each.get("retryDelay") if isinstance(each, dict) else None
        if isinstance(delay, str) and (found := _DELAY.fullmatch(delay)):
            return retry_after_of({"retry-after": found[1]})
    return None


def _refused_by_field(failure: ErrorBody) -> type[PlatformError] | None:
    """Return the class for an error that names a field: only validation errors do."""
    return ProviderRejectedRequest if failure.field else None


def _by_code(error: Mapping[str, object]) -> type[PlatformError] | None:
    code, inner = error.get("code"), error.get("innererror")
    if kind := _BY_CODE.get(str(code)):
        short = code == "string_above_max_length" and not _LONG_TEXT.fullmatch(str(error.get("param") or "input"))
        return ProviderRejectedRequest if short else kind
    if isinstance(inner, dict) and (kind := _BY_CODE.get(str(inner.get("code")))):
        return kind
    # OpenRouter, vLLM and others put a status there, some of them as a string.
    for given in (code, *map(error.get, _STATUS_NAMES)):
        if isinstance(given, str) and len(given) == 3 and given.isascii() and given.isdigit():
            given = int(given)
        if isinstance(given, int) and 400 <= given <= 599:
            return kind_of_status(given)
    return None
