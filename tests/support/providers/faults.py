"""The expected outcome of every fault of the simulator: one table for adapters and for HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass

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
from platform_app.llm.errors import ResponseTooLarge, UnsupportedByRoute


@dataclass(frozen=True)
class Expected:
    """The outcome of one fault; None is a valid response."""

    model: str
    """Selects the fault, with a number that keeps the test short."""
    json: type[PlatformError] | None
    stream: type[PlatformError] | None
    after_deltas: bool = False
    """The stream fails after its first deltas, so the failure cannot be a status."""
    retry_after: float | None = None
    """The seconds that the caller has to wait; None if waiting does not help."""


IDLE_SECONDS = 0.6
"""The idle timeout that the numbers below are made for."""
GATEWAY_IDLE_SECONDS = 2.0
"""The same for a whole gateway, in which successful calls have the timeout too."""


def _always(model: str, kind: type[PlatformError] | None, retry_after: float | None = None) -> Expected:
    return Expected(model, kind, kind, retry_after=retry_after)


EXPECTED: Mapping[str, Expected] = {
    "ok": _always("sim-ok", None),
    "delay": _always("sim-delay-100", None),
    "slow-first-token": _always("sim-slow-first-token-100", None),
    "slow-stream": _always("sim-slow-stream-20", None),
    "bad-request": _always("sim-bad-request", ProviderRejectedRequest),
    "context-length": _always("sim-context-length", ContextLengthExceeded),
    "content-filter": _always("sim-content-filter", ContentFiltered),
    "unauthorized": _always("sim-unauthorized", ProviderAuthFailed),
    "forbidden": _always("sim-forbidden", ProviderAuthFailed),
    "not-found": _always("sim-not-found", ProviderNotConfigured),
    "rate-limited": _always("sim-rate-limited-7", ProviderRateLimited, 7),
    "quota": _always("sim-quota", ProviderQuotaExhausted),
    "server-error": _always("sim-server-error", ProviderError),
    "overloaded": _always("sim-overloaded-3", ProviderUnavailable, 3),
    "bad-gateway-html": _always("sim-bad-gateway-html", ProviderError),
    "drop": _always("sim-drop", ProviderUnavailable, 1),
    "drop-mid-body": Expected("sim-drop-mid-body", ProviderBadResponse, ProviderBadResponse, after_deltas=True),
    "stream-drop": Expected("sim-stream-drop", ProviderBadResponse, ProviderBadResponse, after_deltas=True),
    "stream-hang": Expected("sim-stream-hang", ProviderTimeout, ProviderTimeout, after_deltas=True),
    "hang": _always("sim-hang", ProviderTimeout),
    "malformed-json": _always("sim-malformed-json", ProviderBadResponse),
    "wrong-shape": _always("sim-wrong-shape", ProviderBadResponse),
    "wrong-content-type": _always("sim-wrong-content-type", ProviderBadResponse),
    "huge-body": Expected("sim-huge-body-40", ResponseTooLarge, ResponseTooLarge, after_deltas=True),
    "huge-line": _always("sim-huge-line-40", ResponseTooLarge),
    "stream-error": Expected("sim-stream-error", ProviderError, ProviderError, after_deltas=True),
    "stream-truncated": Expected("sim-stream-truncated", ProviderBadResponse, ProviderBadResponse, after_deltas=True),
    "stream-failed": Expected("sim-stream-failed", ProviderError, ProviderError, after_deltas=True),
    "stream-malformed": Expected("sim-stream-malformed", ProviderBadResponse, ProviderBadResponse, after_deltas=True),
    "odd-usage": _always("sim-odd-usage-2", None),
    "flaky": _always("sim-flaky-1000", ProviderError),
    "refused": _always("sim-refused", ProviderUnavailable, 1),
    "redirect": _always("sim-redirect", ProviderBadResponse),
    "detail-list": _always("sim-detail-list", ProviderRejectedRequest),
    "flat-error": _always("sim-flat-error", ProviderRejectedRequest),
    "error-text": _always("sim-error-text", ProviderRejectedRequest),
    "plain-text": _always("sim-plain-text", ProviderRejectedRequest),
    "payment-required": _always("sim-payment-required", ProviderQuotaExhausted),
    "method-not-allowed": _always("sim-method-not-allowed", ProviderNotConfigured),
    "conflict": _always("sim-conflict", ProviderRejectedRequest),
    "no-endpoints": _always("sim-no-endpoints", UnsupportedByRoute),
    "moderation": _always("sim-moderation", ContentFiltered),
    "context-words": _always("sim-context-words", ContextLengthExceeded),
    "failure-in-200": _always("sim-failure-in-200", ContextLengthExceeded),
    "odd-type": _always("sim-odd-type", None),
    "always-stream": _always("sim-always-stream", None),
    "never-stream": _always("sim-never-stream", None),
    "filtered": _always("sim-filtered", ContentFiltered),
    "half-surrogate": _always("sim-half-surrogate", None),
    "null-choices": _always("sim-null-choices", None),
    "empty-events": _always("sim-empty-events", None),
    "bom": _always("sim-bom", None),
    "role-then-error": _always("sim-role-then-error", ProviderError),
    "interleaved": _always("sim-interleaved", None),
}
"""By fault name. A new fault of the simulator needs a line here: a test compares the names."""
