"""A provider's failure as one of our errors: what all wire formats share.

A provider's words reach the caller where the caller must act on them (the request is wrong), and the log where not
(`ProviderRoute`). Words about a refused credential, which echo parts of keys, reach the log alone, and masked.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

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
from platform_app.llm.providers.error_body import clean, read_error_body

MAX_RETRY_AFTER_SECONDS = 60.0
_MAX_MESSAGE = 500
_MAX_PARAM = 200
_MIN_CREDENTIAL = 12
_KEY_LIKE = re.compile(r"\b(?:sk|pk|rk|fbp)[-_][0-9A-Za-z_*.-]{6,}")

_MESSAGES: Mapping[type[PlatformError], str] = {
    ContextLengthExceeded: "The request is longer than the model's context. Shorten it or lower max_tokens.",
    ContentFiltered: "The provider's content policy refused this request.",
    ProviderRejectedRequest: "The provider refused this request as invalid.",
    ProviderAuthFailed: "The provider refused the platform's credential. This is the operator's to mend.",
    ProviderNotConfigured: "The provider does not serve this route's model or operation. Contact your operator.",
    ProviderRateLimited: "The provider is limiting the platform's requests. Try again shortly.",
    ProviderQuotaExhausted: "The platform's quota at the provider is used up. This is the operator's to mend.",
    ProviderUnavailable: "The provider is unavailable right now. Try again shortly.",
    ProviderTimeout: "The provider did not answer in time.",
    ProviderError: "The provider failed to answer this request.",
    ProviderBadResponse: "The provider's answer was not understood.",
}
_TOO_LARGE = "The provider's response is larger than the platform takes. Ask for less, with a smaller max_tokens or n."
_TELL_WHY = (ContextLengthExceeded, ContentFiltered, ProviderRejectedRequest)
_WAITING_HELPS = (ProviderRateLimited, ProviderUnavailable)


class UnsupportedByRoute(ProviderRejectedRequest):
    """The model or the provider of this route cannot do what the request asks for. Another route's may be able to."""


class UnsupportedByProvider(UnsupportedByRoute):
    """Nothing was sent: the request cannot be said in this route's wire format. Another route's may be able to."""


class ResponseTooLarge(ProviderBadResponse):
    """The response, or one event of it, is larger than the gateway takes: what was asked for decides that, and it says
    nothing of the provider."""

    should_retry = False


class CutOff(ProviderTimeout):
    """The call's time ended while the provider was sending: a long response was asked for, and that says nothing of the
    provider's health. One that was silent is a ProviderTimeout."""


class BreakerOpen(ProviderUnavailable):
    """Nothing was sent: the route failed too often lately. To a caller it is the provider that is unavailable."""


BY_STATUS: Mapping[int, type[PlatformError]] = {
    401: ProviderAuthFailed,
    402: ProviderQuotaExhausted,
    403: ProviderAuthFailed,
    # A model, a deployment, or an address: the catalog's names, not the caller's.
    404: ProviderNotConfigured,
    405: ProviderNotConfigured,
    407: ProviderNotConfigured,  # a proxy on the way
    408: ProviderTimeout,
    410: ProviderNotConfigured,
    421: ProviderNotConfigured,
    425: ProviderUnavailable,
    426: ProviderNotConfigured,
    429: ProviderRateLimited,
    498: ProviderRateLimited,  # Groq: no capacity in this tier
    500: ProviderError,
    501: UnsupportedByRoute,
    502: ProviderError,
    503: ProviderUnavailable,
    504: ProviderTimeout,
    # Cloudflare: the server behind it is down, cannot be reached, or is too slow.
    521: ProviderUnavailable,
    522: ProviderUnavailable,
    523: ProviderUnavailable,
    524: ProviderTimeout,
    529: ProviderUnavailable,  # Anthropic, and servers in front of it: overloaded
}
"""What a status alone says; see `kind_of_status`."""


def kind_of_status(status: int) -> type[PlatformError]:
    """The error for a status that is not 200, whatever the body. A 4xx without a meaning of its own says that this
    request is refused: it says nothing of the provider's health."""
    known = BY_STATUS.get(status)
    if known is not None:
        return known
    if status >= 500:
        return ProviderError
    return ProviderRejectedRequest if status >= 400 else ProviderBadResponse


def make_error(
    kind: type[PlatformError], message: object = None, retry_after: float | None = None, param: object = None
) -> PlatformError:
    """An error of this kind. The provider's `message` and `param` are told, keys masked, where the caller must act on
    them, else the message is kept for the log; `retry_after` is told only where waiting helps."""
    why = _told(message, _MAX_MESSAGE)
    if issubclass(kind, _TELL_WHY):
        return kind(_MESSAGES[_named(kind)], details=[why] if why else None, param=_told(param, _MAX_PARAM))
    error = kind(_MESSAGES[_named(kind)], retry_after=retry_after if issubclass(kind, _WAITING_HELPS) else None)
    error.provider_message = why
    return error


def _named(kind: type[PlatformError]) -> type[PlatformError]:
    return next(each for each in kind.__mro__ if each in _MESSAGES)


def _told(words: object, most: int) -> str | None:
    said = clean(words) if isinstance(words, str) else None
    return mask_keys(said)[:most] if said else None


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


def _without_parts(text: str, credential: str) -> str:
    """Also without the parts that providers show of a key that they refuse: `0ca7****d7e8`."""
    if len(credential) < _MIN_CREDENTIAL:
        return text
    parts = (credential[:4], credential[-4:])
    return " ".join("[masked]" if any(part in word for part in parts) else word for word in text.split(" "))


def mask_credential(error: BaseException | None, credential: str | None) -> None:
    """Take our credential out of what an error tells. Providers' keys have no form by which all could be known, and a
    provider, or a proxy in front of it, may repeat a header that it did not like."""
    if credential and isinstance(error, PlatformError):
        if error.details:
            error.details = [_masked(detail, credential) for detail in error.details]
        if error.provider_message:
            error.provider_message = _without_parts(_masked(error.provider_message, credential), credential)
        if error.param and credential in error.param:
            error.param = None


def unavailable() -> ProviderUnavailable:
    """The provider could not be reached, or hung up before it answered."""
    return ProviderUnavailable(_MESSAGES[ProviderUnavailable])


def timed_out(what: str) -> ProviderTimeout:
    """The provider was too slow; `what` says which deadline."""
    return ProviderTimeout(_MESSAGES[ProviderTimeout], details=[what])


def proxy_refused(status: int) -> PlatformError:
    """The proxy between us and the provider opened no tunnel: a refusal of ours is for the operator to correct."""
    if status >= 500:
        return unavailable()
    return ProviderNotConfigured(
        "The proxy on the way to this model's provider refuses the platform's connection. Contact your operator.",
        details=[f"the proxy answered {status}"],
    )


def cut_off(what: str) -> CutOff:
    """The provider was sending when the call's time ended; `what` says which deadline."""
    return CutOff("The response was not complete in time. Ask for less, or for a stream.", details=[what])


def bad_response(why: str, said: bytes = b"") -> ProviderBadResponse:
    """The provider's answer is not its documented shape; `said` is what it holds instead, for the log."""
    error = ProviderBadResponse(_MESSAGES[ProviderBadResponse], details=[why])
    if said:
        error.provider_message = _told(read_error_body({}, said).message, _MAX_MESSAGE)
    return error


def unsupported(field: str, why: str) -> UnsupportedByProvider:
    """The request has a field that the model's wire format cannot express; `field` is its path."""
    return UnsupportedByProvider(_MESSAGES[ProviderRejectedRequest], details=[f"{field}: {why}"], param=field)


def too_large(what: str) -> ResponseTooLarge:
    """The provider's response is beyond a bound of the gateway's; `what` says which."""
    return ResponseTooLarge(_TOO_LARGE, details=[what])


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
