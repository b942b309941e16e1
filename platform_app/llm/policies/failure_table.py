"""Which error is retried, which falls back and which counts for the breaker: the one table of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from platform_app.errors import (
    AuthUnavailable,
    CallerRefused,
    ContextLengthExceeded,
    Draining,
    IdempotencyUnavailable,
    InternalError,
    LedgerUnavailable,
    LimiterUnavailable,
    Overloaded,
    PlatformError,
    ProviderAuthFailed,
    ProviderBadResponse,
    ProviderError,
    ProviderNotConfigured,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    RequestRefused,
)
from platform_app.llm.errors import BreakerOpen, CutOff, ResponseTooLarge, UnsupportedByRoute


class Health(Enum):
    """What the end of a call says of its route."""

    WORKS = "works"
    FAILS = "fails"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class FailurePolicy:
    """What is done about an error."""

    retry: bool
    """The same route may well answer a moment later."""
    fall_back: bool
    """Another route may answer."""
    health: Health
    why: str
    other_model_only: bool = False
    """Falls back only to a route whose model at its provider is another one: the same model says the same anywhere."""


_OURS = FailurePolicy(False, False, Health.UNKNOWN, "comes from in front of the routes; here it would be a bug")

FAILURE_POLICIES: Mapping[type[PlatformError], FailurePolicy] = {
    RequestRefused: FailurePolicy(
        False, False, Health.UNKNOWN, "the request is as wrong everywhere; some adapters know without asking"
    ),
    ContextLengthExceeded: FailurePolicy(
        False,
        True,
        Health.UNKNOWN,
        "as wrong for this model everywhere; one of another size may take it",
        other_model_only=True,
    ),
    UnsupportedByRoute: FailurePolicy(
        False, True, Health.UNKNOWN, "only this wire format, model or account cannot do it; those of another route may"
    ),
    CallerRefused: _OURS,
    RateLimited: _OURS,
    AuthUnavailable: _OURS,
    LimiterUnavailable: _OURS,
    LedgerUnavailable: _OURS,
    IdempotencyUnavailable: _OURS,
    Draining: _OURS,
    InternalError: _OURS,
    ProviderNotConfigured: FailurePolicy(
        False, True, Health.UNKNOWN, "a credential or a model's name, the operator's to mend; others have theirs"
    ),
    Overloaded: FailurePolicy(False, True, Health.UNKNOWN, "our own cap: it has queued already, and nothing was sent"),
    BreakerOpen: FailurePolicy(False, True, Health.UNKNOWN, "nothing was sent, and nothing will be before its time"),
    ProviderUnavailable: FailurePolicy(
        True, True, Health.FAILS, "a lost connection or a full server passes, or it is an outage"
    ),
    ProviderError: FailurePolicy(True, True, Health.FAILS, "a 5xx passes, or it is an outage"),
    ProviderBadResponse: FailurePolicy(
        True, True, Health.FAILS, "an answer cut short passes; a provider that talks nonsense is down"
    ),
    ResponseTooLarge: FailurePolicy(
        False,
        True,
        Health.UNKNOWN,
        "what was asked for makes it large, as often as it is asked; a smaller model may do",
    ),
    ProviderTimeout: FailurePolicy(
        False, True, Health.FAILS, "the time is spent, the same again is likely, and the first may still be billed"
    ),
    CutOff: FailurePolicy(
        False, True, Health.UNKNOWN, "the provider was sending: what was asked for is longer than the call's time"
    ),
    ProviderRateLimited: FailurePolicy(
        True, True, Health.WORKS, "it says when to come again; a breaker would make a limit an outage"
    ),
    ProviderQuotaExhausted: FailurePolicy(
        False, True, Health.WORKS, "waiting does not pay the bill; it answers, and its error must stay visible"
    ),
    ProviderAuthFailed: FailurePolicy(
        False, True, Health.WORKS, "the credential was fetched anew already; its error must stay visible"
    ),
}
"""By class; a class that is not here is judged as its nearest base."""

_BUG = FailurePolicy(False, False, Health.UNKNOWN, "not one of ours: a bug, which is to be seen and not to be repeated")


def failure_policy_of(error: BaseException) -> FailurePolicy:
    """The row of an error."""
    for kind in type(error).__mro__:
        if kind in FAILURE_POLICIES:
            return FAILURE_POLICIES[kind]
    return _BUG


def reason_label(error: PlatformError) -> str:
    """The error as a label: its code, but `breaker_open` where the provider was not even asked."""
    return "breaker_open" if isinstance(error, BreakerOpen) else error.code
