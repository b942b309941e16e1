"""A provider's failure as one of our errors: what all wire formats share.

A provider's words reach the caller only where the caller must act on them (the request is wrong), and never from a
401 or 403, which echo parts of keys.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import orjson

from platform_app.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    PlatformError,
    ProviderAuthFailed,
    ProviderBadResponse,
    ProviderError,
    ProviderNotConfigured,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRejectedRequest,
    ProviderTimeout,
    ProviderUnavailable,
)

MAX_RETRY_AFTER_SECONDS = 60.0
_MAX_MESSAGE = 500
_MAX_PARAM = 200
_KEY_LIKE = re.compile(r"\b(?:sk|pk|rk|fbp)[-_][0-9A-Za-z_*.-]{6,}")

_MESSAGES: Mapping[type[PlatformError], str] = {
    ContextLengthExceeded: "The request is longer than the model's context. Shorten it or lower max_tokens.",
    ContentFiltered: "The provider's content policy refused this request.",
    ProviderRejectedRequest: "The provider refused this request as invalid.",
    ProviderAuthFailed: "The provider refused the platform's credential. This is the operator's to mend.",
    ProviderNotConfigured: "The provider does not know the model of this route. This is the operator's to mend.",
    ProviderRateLimited: "The provider is limiting the platform's requests. Try again shortly.",
    ProviderQuotaExhausted: "The platform's quota at the provider is used up. This is the operator's to mend.",
    ProviderUnavailable: "The provider is unavailable right now. Try again shortly.",
    ProviderTimeout: "The provider did not answer in time.",
    ProviderError: "The provider failed to answer this request.",
    ProviderBadResponse: "The provider's answer was not understood.",
}
_TELL_WHY = (ContextLengthExceeded, ContentFiltered, ProviderRejectedRequest)
_WAITING_HELPS = (ProviderRateLimited, ProviderUnavailable)


BY_STATUS: Mapping[int, type[PlatformError]] = {
    400: ProviderRejectedRequest,
    401: ProviderAuthFailed,
    403: ProviderAuthFailed,
    404: ProviderNotConfigured,  # a model or a deployment: the catalog's names, not the caller's
    408: ProviderTimeout,
    413: ProviderRejectedRequest,
    422: ProviderRejectedRequest,
    429: ProviderRateLimited,
    503: ProviderUnavailable,
    504: ProviderTimeout,
}
"""What a status alone says; see `kind_of_status`."""


class NotExpressible(ProviderRejectedRequest):
    """Nothing was sent: the request cannot be said in this route's wire format. Another route's may be able to."""


def kind_of_status(status: int) -> type[PlatformError]:
    """The error for a status that is not 200, whatever the body."""
    return BY_STATUS.get(status) or (ProviderError if status >= 400 else ProviderBadResponse)


def make_error(
    kind: type[PlatformError], message: object = None, retry_after: float | None = None, param: object = None
) -> PlatformError:
    """An error of this kind. The provider's `message` and `param` are told, keys masked, only where the caller must act
    on them; `retry_after` only where waiting helps."""
    if issubclass(kind, _TELL_WHY):
        why = _told(message, _MAX_MESSAGE)
        return kind(_MESSAGES[kind], details=[why] if why else None, param=_told(param, _MAX_PARAM))
    return kind(_MESSAGES[kind], retry_after=retry_after if issubclass(kind, _WAITING_HELPS) else None)


def _told(words: object, most: int) -> str | None:
    return mask_keys(words)[:most] if isinstance(words, str) and words else None


def mask_keys(text: str) -> str:
    """The text without what looks like an API key: somebody may have put one where something else belongs."""
    return _KEY_LIKE.sub("[masked]", text)


def _masked(text: str, credential: str) -> str:
    """Also where the text was cut off in the middle of it."""
    text = text.replace(credential, "[masked]")
    for length in range(len(credential) - 1, 3, -1):
        if text.endswith(credential[:length]):
            return f"{text[:-length]}[masked]"
    return text


def mask_credential(error: BaseException | None, credential: str | None) -> None:
    """Take our credential out of what an error tells. Providers' keys have no form by which all could be known, and a
    provider, or a proxy in front of it, may repeat a header that it did not like."""
    if credential and isinstance(error, PlatformError):
        if error.details:
            error.details = [_masked(detail, credential) for detail in error.details]
        if error.param and credential in error.param:
            error.param = None


def unavailable() -> ProviderUnavailable:
    """The provider could not be reached, or hung up before it answered."""
    return ProviderUnavailable(_MESSAGES[ProviderUnavailable])


def timed_out(what: str) -> ProviderTimeout:
    """The provider was too slow; `what` says which deadline."""
    return ProviderTimeout(_MESSAGES[ProviderTimeout], details=[what])


def bad_response(why: str) -> ProviderBadResponse:
    """The provider's answer is not its documented shape."""
    return ProviderBadResponse(_MESSAGES[ProviderBadResponse], details=[why])


def not_available(field: str, why: str) -> NotExpressible:
    """The request has a field that the model's wire format cannot express; `field` is its path."""
    return NotExpressible(_MESSAGES[ProviderRejectedRequest], details=[f"{field}: {why}"], param=field)


def error_object(body: bytes) -> Mapping[str, object]:
    """The `error` object of an error's body; empty where there is none."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    if isinstance(data, list) and data:  # Google's OpenAI endpoint wraps it so
        data = data[0]
    error = data.get("error") if isinstance(data, dict) else None
    return error if isinstance(error, dict) else {}


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Seconds from Retry-After, a number or an HTTP date (RFC 9110, 10.2.3), capped."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    # The comparison also turns a NaN away.
    return min(seconds, MAX_RETRY_AFTER_SECONDS) if seconds >= 0 else None
