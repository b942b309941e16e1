"""The outcome of a request, by whom its end concerns: the classes of platform_requests_total and
platform_model_requests_total (docs/observability.md, "Outcomes").

The error code decides, not the status: a 503 is a provider's failure or ours, and a stream that failed late has a 200.
"""

from enum import StrEnum

from platform_app.observability.tracing.sampling import CLIENT_CLOSED

CLIENT_CLOSED_STATUS = 499


class Outcome(StrEnum):
    """What became of a request."""

    OK = "ok"
    CALLER_ERROR = "caller_error"
    """The request itself has to change."""
    DENIED = "denied"
    """A policy refused it: credentials, scope, model, limit or budget."""
    PROVIDER_ERROR = "provider_error"
    """The provider failed or cannot be reached, refuses our credential, or its breaker is open."""
    GATEWAY_ERROR = "gateway_error"
    """A part of the gateway is unavailable, overloaded, not configured, or has a bug."""
    DRAINING = "draining"
    """An instance that shuts down refused it. Part of every rollout, so no objective counts it: the client or the load
    balancer sends the request to another instance."""
    CLIENT_CLOSED = "client_closed"
    """The client disconnected before its response was complete."""


_CODES: dict[Outcome, tuple[str, ...]] = {
    Outcome.CALLER_ERROR: (
        "invalid_request", "context_length_exceeded", "content_filtered", "provider_rejected_request", "not_found",
        "method_not_allowed", "model_not_found", "conflict", "idempotency_in_flight", "payload_too_large",
        "unsupported_media_type", "validation_error", "headers_too_large",
    ),
    Outcome.DENIED: (
        "missing_credentials", "invalid_api_key", "insufficient_scope", "model_not_allowed", "price_unknown",
        "rate_limited", "budget_exceeded",
    ),
    Outcome.GATEWAY_ERROR: (
        "auth_unavailable", "limiter_unavailable", "ledger_unavailable", "idempotency_unavailable",
        "provider_not_configured", "overloaded", "internal_error",
    ),
    Outcome.DRAINING: ("draining",),
    Outcome.PROVIDER_ERROR: (
        "provider_error", "provider_bad_response", "provider_auth_failed", "provider_unavailable",
        "provider_rate_limited", "provider_quota_exhausted", "provider_timeout",
    ),
    Outcome.CLIENT_CLOSED: (CLIENT_CLOSED,),
}  # fmt: skip
_OUTCOMES = {code: outcome for outcome, codes in _CODES.items() for code in codes}


def outcome_of(status: int, reason: str | None) -> Outcome:
    """Return the outcome of a request that has ended.

    Args:
        status: of the response; 499 if the client disconnected first.
        reason: RequestContext.reason, usually the error's code. Without a code of the error tree the status decides.
    """
    if status == CLIENT_CLOSED_STATUS:
        return Outcome.CLIENT_CLOSED
    if reason is not None and (outcome := _OUTCOMES.get(reason)) is not None:
        return outcome
    if status in (401, 403, 429):
        return Outcome.DENIED
    if 400 <= status < 500:
        return Outcome.CALLER_ERROR
    return Outcome.OK if 0 < status < 400 else Outcome.GATEWAY_ERROR
