"""The one table that says which error is retried, which falls back and which counts for the breaker."""

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
from platform_app.llm.errors import BreakerOpen, CutOff, ResponseTooLarge, UnsupportedByRoute, UnusableOutput


class Health(Enum):
    """What the end of a call shows about its route."""

    WORKS = "works"
    FAILS = "fails"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class FailurePolicy:
    """What the policies do after an error."""

    retry: bool
    """The same route may succeed a moment later."""
    fall_back: bool
    """Another route may succeed."""
    health: Health
    why: str
    other_model_only: bool = False
    """Fall back only to a route with another upstream model: the same model fails the same way at any provider."""


_OURS = FailurePolicy(False, False, Health.UNKNOWN, "raised in front of the routes; here it would be a bug")

FAILURE_POLICIES: Mapping[type[PlatformError], FailurePolicy] = {
    RequestRefused: FailurePolicy(
        False,
        False,
        Health.UNKNOWN,
        "the request is invalid on every route; some adapters see that before sending",
    ),
    ContextLengthExceeded: FailurePolicy(
        False,
        True,
        Health.UNKNOWN,
        "too long for this model on every route; a model with a larger context may accept it",
        other_model_only=True,
    ),
    UnsupportedByRoute: FailurePolicy(
        False,
        True,
        Health.UNKNOWN,
        "this wire format, model or account does not support it; another route may",
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
        False,
        True,
        Health.UNKNOWN,
        "a wrong credential or model name, for the operator to fix; other routes differ",
    ),
    Overloaded: FailurePolicy(
        False, True, Health.UNKNOWN, "our own limit: it has queued already, and nothing was sent"
    ),
    BreakerOpen: FailurePolicy(False, True, Health.UNKNOWN, "nothing was sent, and the breaker stays open"),
    ProviderUnavailable: FailurePolicy(
        True, True, Health.FAILS, "a lost connection or a full server is temporary, or it is an outage"
    ),
    ProviderError: FailurePolicy(True, True, Health.FAILS, "a 5xx is temporary, or it is an outage"),
    ProviderBadResponse: FailurePolicy(
        True, True, Health.FAILS, "an incomplete response is temporary; a provider whose responses are invalid is down"
    ),
    ResponseTooLarge: FailurePolicy(
        False,
        True,
        Health.UNKNOWN,
        "the request makes the response large, on every retry; another model may respond with less",
    ),
    UnusableOutput: FailurePolicy(
        False,
        True,
        Health.UNKNOWN,
        "the request may make the model write it, on every retry, and each is billed; another model may not",
    ),
    ProviderTimeout: FailurePolicy(
        False,
        True,
        Health.FAILS,
        "the time is used up, a retry is likely as slow, and the first may still be billed",
    ),
    CutOff: FailurePolicy(
        False,
        True,
        Health.UNKNOWN,
        "the provider was sending: the response takes longer than the call's time",
    ),
    ProviderRateLimited: FailurePolicy(
        True, True, Health.WORKS, "the error says when to retry; an open breaker would make a limit an outage"
    ),
    ProviderQuotaExhausted: FailurePolicy(
        False,
        True,
        Health.WORKS,
        "a retry does not pay the bill; the provider is up, and its error must stay visible",
    ),
    ProviderAuthFailed: FailurePolicy(
        False, True, Health.WORKS, "the credential was fetched again already; its error must stay visible"
    ),
}
"""By class. A class that is not listed has the policy of its nearest base class."""

_BUG = FailurePolicy(False, False, Health.UNKNOWN, "a bug, not a PlatformError: it must be visible, and not repeated")


def failure_policy_of(error: BaseException) -> FailurePolicy:
    """Return the policy for an error."""
    for kind in type(error).__mro__:
        if kind in FAILURE_POLICIES:
            return FAILURE_POLICIES[kind]
    return _BUG


def reason_label(error: PlatformError) -> str:
    """Return the error as a metric label: its code, or `breaker_open` if nothing was sent to the provider."""
    return "breaker_open" if isinstance(error, BreakerOpen) else error.code
