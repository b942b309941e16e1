"""Turn a provider's failure into one of our errors: what all wire formats share.

A provider's message reaches the caller if the caller must act on it (the request is invalid), else the log
(`ProviderRoute`). Messages about a refused credential repeat parts of it, so they reach the log only, and masked.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from platform_app.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    InvalidRequest,
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
from platform_app.llm.codecs.lenient_json import Unwritable
from platform_app.llm.codecs.value_count import MAX_VALUES
from platform_app.llm.providers.error_body import clean, read_error_body
from platform_app.observability.logging import get_logger

_log = get_logger("providers")

MAX_RETRY_AFTER_SECONDS = 60.0
_MAX_MESSAGE = 500
_MAX_PARAM = 200
_MIN_CREDENTIAL = 12
_KEY_LIKE = re.compile(r"\b(?:sk|pk|rk|fbp)[-_][0-9A-Za-z_*.-]{6,}")

_MESSAGES: Mapping[type[PlatformError], str] = {
    ContextLengthExceeded: "The request is longer than the model's context. Shorten it or lower max_tokens.",
    ContentFiltered: "The provider's content policy refused this request.",
    ProviderRejectedRequest: "The provider refused this request as invalid.",
    ProviderAuthFailed: "The provider refused the platform's credential. Contact your platform operator.",
    ProviderNotConfigured: "The provider does not serve this model or operation. Contact your platform operator.",
    ProviderRateLimited: "The provider is limiting the platform's requests. Try again shortly.",
    ProviderQuotaExhausted: "The platform's quota at the provider is used up. Contact your platform operator.",
    ProviderUnavailable: "The provider is unavailable right now. Try again shortly.",
    ProviderTimeout: "The provider did not respond in time.",
    ProviderError: "The provider failed to process this request.",
    ProviderBadResponse: "The provider's response was not valid.",
}
_UNSUPPORTED = "This model's provider does not support this request."
_TOO_LARGE = "The provider's response is larger than the platform allows. Lower max_tokens or n."
_SHOW_MESSAGE = (ContextLengthExceeded, ContentFiltered, ProviderRejectedRequest)
_RETRY_LATER = (ProviderRateLimited, ProviderUnavailable)


class UnsupportedByRoute(ProviderRejectedRequest):
    """The model or the provider of this route does not support the request. Another route may."""


class UnsupportedByProvider(UnsupportedByRoute):
    """Nothing was sent: this route's wire format cannot express the request. Another route may."""

    names_client_fields = False
    """Whether the fields in it are the client's, and not those of the chat completion that its request became."""


class CountingUnsupported(ProviderRejectedRequest):
    """Nothing was sent: this route's provider does not count tokens. The gateway estimates them, so no other route is
    asked."""


class ResponseTooLarge(ProviderBadResponse):
    """The response, or one event of it, is larger than the gateway allows. The size follows from the request and shows
    nothing about the provider."""

    should_retry = False


class UnusableOutput(ProviderBadResponse):
    """The provider's response is valid, and what the model wrote in it is not: the input of a tool is not what the tool
    takes. A prompt can cause that on purpose, so it shows nothing about the provider."""


class CutOff(ProviderTimeout):
    """The call's time ended while the provider was sending. The response is long, which shows nothing about the
    provider's health. An idle provider is a ProviderTimeout."""


class BreakerOpen(ProviderUnavailable):
    """Nothing was sent: the route failed too often lately. For the caller, the provider is unavailable."""


BY_STATUS: Mapping[int, type[PlatformError]] = {
    401: ProviderAuthFailed,
    402: ProviderQuotaExhausted,
    403: ProviderAuthFailed,
    # A model, a deployment or an address: names from the config file, not from the caller.
    404: ProviderNotConfigured,
    405: ProviderNotConfigured,
    407: ProviderNotConfigured,  # a proxy between the gateway and the provider
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
"""The error for a status alone; see `kind_of_status`."""


def kind_of_status(status: int) -> type[PlatformError]:
    """Return the error class for a status that is not 200, whatever the body. A 4xx that is not in the table means that
    this request is refused; it shows nothing about the provider's health."""
    known = BY_STATUS.get(status)
    if known is not None:
        return known
    if status >= 500:
        return ProviderError
    return ProviderRejectedRequest if status >= 400 else ProviderBadResponse


def make_error(
    kind: type[PlatformError], message: object = None, retry_after: float | None = None, param: object = None
) -> PlatformError:
    """Return an error of this class. It shows the provider's `message` and `param`, keys masked, if the caller must act
    on them; else the message is kept for the log. `retry_after` is used only for errors that a later retry can
    avoid."""
    shown = _shown(message, _MAX_MESSAGE)
    if issubclass(kind, _SHOW_MESSAGE):
        return kind(_MESSAGES[_named(kind)], details=[shown] if shown else None, param=_shown(param, _MAX_PARAM))
    error = kind(_MESSAGES[_named(kind)], retry_after=retry_after if issubclass(kind, _RETRY_LATER) else None)
    error.provider_message = shown
    return error


def _named(kind: type[PlatformError]) -> type[PlatformError]:
    return next(each for each in kind.__mro__ if each in _MESSAGES)


def _shown(message: object, most: int) -> str | None:
    text = clean(message) if isinstance(message, str) else None
    return mask_keys(text)[:most] if text else None


def mask_keys(text: str) -> str:
    """Return the text with everything that looks like an API key masked: a client may send one in the wrong field."""
    return _KEY_LIKE.sub("[masked]", text)


def _masked(text: str, credential: str) -> str:
    """Also mask a credential that is cut off at the end of the text."""
    text = text.replace(credential, "[masked]")
    for length in range(len(credential) - 1, 3, -1):
        if text.endswith(credential[:length]):
            return f"{text[:-length]}[masked]"
    return text


def _without_parts(text: str, credential: str) -> str:
    """Also mask the parts of a refused key that providers show: `0ca7****d7e8`."""
    if len(credential) < _MIN_CREDENTIAL:
        return text
    parts = (credential[:4], credential[-4:])
    return " ".join("[masked]" if any(part in word for part in parts) else word for word in text.split(" "))


def mask_credential(error: BaseException | None, credential: str | None) -> None:
    """Mask our credential in an error's texts. Providers' keys have no common form that a pattern could find, and a
    provider, or a proxy in front of it, may repeat a header that it refused."""
    if credential and isinstance(error, PlatformError):
        if error.details:
            error.details = [_masked(detail, credential) for detail in error.details]
        if error.provider_message:
            error.provider_message = _without_parts(_masked(error.provider_message, credential), credential)
        if error.param and credential in error.param:
            error.param = None


def unavailable() -> ProviderUnavailable:
    """Return the error of a provider that was not reachable, or closed the connection before it responded."""
    return ProviderUnavailable(_MESSAGES[ProviderUnavailable])


def timed_out(what: str) -> ProviderTimeout:
    """Return the error of a provider that was too slow; `what` names the timeout."""
    return ProviderTimeout(_MESSAGES[ProviderTimeout], details=[what])


def proxy_refused(status: int) -> PlatformError:
    """Return the error of a proxy that opened no tunnel to the provider. If it refused us, the operator must fix
    that."""
    if status >= 500:
        return unavailable()
    return ProviderNotConfigured(
        "The proxy in front of this provider refuses the platform's connection. Contact your platform operator.",
        details=[f"the proxy returned status {status}"],
    )


def cut_off(what: str) -> CutOff:
    """Return the error of a provider that was still sending when the call's time ended; `what` names the timeout."""
    return CutOff("The response was not complete in time. Lower max_tokens, or request a stream.", details=[what])


def bad_response(why: str, body: bytes = b"") -> ProviderBadResponse:
    """Return the error of a response that has not its documented shape; `body` is what it has instead, for the log."""
    error = ProviderBadResponse(_MESSAGES[ProviderBadResponse], details=[why])
    if body:
        error.provider_message = _shown(read_error_body({}, body).message, _MAX_MESSAGE)
    return error


def unusable_output(why: str) -> UnusableOutput:
    """Return the error of a response in which the model wrote a call that its tool cannot take."""
    return UnusableOutput(_MESSAGES[ProviderBadResponse], details=[why])


def failure_of_reading(error: Exception) -> PlatformError:
    """Return the error for anything that reading or rewriting a provider's response raised. A response that the code
    did not expect is a provider's failure: the client gets an error of its format, and never a 500 or a stream without
    an end."""
    if isinstance(error, PlatformError):
        return error
    if isinstance(error, Unwritable):
        return bad_response("the response is nested too deeply")
    _log.warning("provider_response_unreadable", error=type(error).__name__, exc_info=error)
    return bad_response("the response cannot be read")


def unsupported(field: str, why: str) -> UnsupportedByProvider:
    """Return the error of a request field that the wire format cannot express; `field` is its path, which is cut: the
    client chooses the names in it."""
    field = field[:_MAX_PARAM]
    return UnsupportedByProvider(_UNSUPPORTED, details=[f"{field}: {why}"], param=field)


def too_many_values(field: str) -> UnsupportedByProvider:
    """Return the error of a JSON text in a request that has too many values; `field` is its path."""
    return unsupported(field, f"the JSON texts of a request may have at most {MAX_VALUES} values together")


def too_large(what: str) -> ResponseTooLarge:
    """Return the error of a response that is larger than a limit of the gateway; `what` names the limit."""
    return ResponseTooLarge(_TOO_LARGE, details=[what])


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a Retry-After header, a number or an HTTP date (RFC 9110, 10.2.3), capped; or of a header
    with milliseconds."""
    text = headers.get("retry-after", "").strip()
    milliseconds = headers.get("retry-after-ms") or headers.get("x-ms-retry-after-ms")
    if milliseconds:  # OpenAI and Azure; more precise than the seconds beside it
        try:
            return _capped(float(milliseconds) / 1000)
        except ValueError:
            pass
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return _capped(seconds)


def _capped(seconds: float) -> float | None:
    # The comparison is false for NaN too.
    return min(seconds, MAX_RETRY_AFTER_SECONDS) if seconds >= 0 else None


def stored_elsewhere() -> InvalidRequest:
    """Return the error for a request that refers to a stored response whose route the model does not have any more."""
    return InvalidRequest(
        "previous_response_id: no route of this model has the stored response any more. Send the conversation again "
        "without previous_response_id.",
        param="previous_response_id",
    )
