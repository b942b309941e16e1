"""Define every error that a client can get, with its stable code, HTTP status and time to wait.

The tree (status and code beside each leaf)::

    PlatformError
    ├── RequestRefused                 the request itself must change
    │   ├── InvalidRequest             400 invalid_request
    │   ├── ContextLengthExceeded      400 context_length_exceeded
    │   ├── ContentFiltered            400 content_filtered
    │   ├── ProviderRejectedRequest    400 provider_rejected_request
    │   ├── NotFound                   404 not_found
    │   ├── MethodNotAllowed           405 method_not_allowed
    │   ├── ModelNotFound              404 model_not_found
    │   ├── Conflict                   409 conflict
    │   ├── IdempotencyInFlight        409 idempotency_in_flight
    │   ├── PayloadTooLarge            413 payload_too_large
    │   ├── UnsupportedMediaType       415 unsupported_media_type
    │   ├── ValidationFailed           422 validation_error
    │   └── HeadersTooLarge            431 headers_too_large
    ├── CallerRefused                  the credentials, or what they allow
    │   ├── MissingCredentials         401 missing_credentials
    │   ├── InvalidApiKey              401 invalid_api_key
    │   ├── InsufficientScope          403 insufficient_scope
    │   ├── ModelNotAllowed            403 model_not_allowed
    │   └── PriceUnknown               403 price_unknown
    ├── RateLimited                    429 rate_limited
    │   └── BudgetExceeded             429 budget_exceeded
    ├── Unavailable                    a part of the gateway; waiting helps where retry_after is set
    │   ├── AuthUnavailable            503 auth_unavailable
    │   ├── LimiterUnavailable         503 limiter_unavailable
    │   ├── LedgerUnavailable          503 ledger_unavailable
    │   ├── IdempotencyUnavailable     503 idempotency_unavailable
    │   ├── ProviderNotConfigured      503 provider_not_configured
    │   ├── Overloaded                 503 overloaded
    │   └── Draining                   503 draining
    ├── ProviderFailed                 the provider failed
    │   ├── ProviderError              502 provider_error
    │   ├── ProviderBadResponse        502 provider_bad_response
    │   ├── ProviderAuthFailed         502 provider_auth_failed
    │   ├── ProviderUnavailable        503 provider_unavailable
    │   ├── ProviderRateLimited        503 provider_rate_limited
    │   ├── ProviderQuotaExhausted     503 provider_quota_exhausted
    │   └── ProviderTimeout            504 provider_timeout
    └── InternalError                  500 internal_error: a bug, and only a bug

A message says what is wrong, what was expected and what to do, for the person who has to act. It never contains a key,
a digest, a secret, a table name or a provider's credential. `docs/http/errors.md` says what a client does about each
code; a test compares that page with this tree.
"""

from collections.abc import Sequence
from typing import ClassVar

from platform_app.credential_forms import mask_keys


class PlatformError(Exception):
    """Base class of all errors that a client can get.

    Args:
        message: what is wrong and what to do, in one or two sentences.
        details: one short sentence for each problem.
        retry_after: seconds to wait before a retry; None if the time is not known.
        param: the request field that is wrong, if it is one field.
        should_retry: overrides the default of the class.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    default_retry_after: ClassVar[float | None] = None
    """Seconds that the client should wait if `retry_after` is not set; None where waiting does not help."""
    should_retry: bool = True
    """Whether a client may retry the same request automatically. False where waiting does not help, and where the
    gateway has used all its own attempts."""
    tries: int = 0
    """Number of attempts of the failed route for this request."""
    provider_message: str | None = None
    """The provider's description of its failure, for the log: masked, one line, and never sent to a client."""

    def __init__(
        self,
        message: str,
        *,
        details: Sequence[str] | None = None,
        retry_after: float | None = None,
        param: str | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.details = list(details) if details else None
        self.retry_after = retry_after
        if should_retry is not None:
            self.should_retry = should_retry

    @property
    def wait_seconds(self) -> float | None:
        """Seconds for `Retry-After`: `retry_after`, else the default of the class. The gateway's own retries ignore the
        default."""
        if self.retry_after is not None:
            return self.retry_after
        return self.default_retry_after if self.should_retry else None


class RequestRefused(PlatformError):
    """The request has to change before it can succeed."""

    should_retry = False


class InvalidRequest(RequestRefused):
    """The request or its body is not valid HTTP or JSON."""

    code, status = "invalid_request", 400


class ContextLengthExceeded(RequestRefused):
    """The provider says that prompt and completion exceed the model's context window."""

    code, status = "context_length_exceeded", 400


class ContentFiltered(RequestRefused):
    """The provider's content policy refused the request."""

    code, status = "content_filtered", 400


class ProviderRejectedRequest(RequestRefused):
    """The provider says that the request is not valid."""

    code, status = "provider_rejected_request", 400


class NotFound(RequestRefused):
    """The path or the resource does not exist, or is not visible to the caller."""

    code, status = "not_found", 404


class MethodNotAllowed(RequestRefused):
    """The path exists, but not with this method."""

    code, status = "method_not_allowed", 405
    allowed: Sequence[str] = ()
    """The methods that the path has."""


class ModelNotFound(RequestRefused):
    """The catalog has no such model."""

    code, status = "model_not_found", 404


class Conflict(RequestRefused):
    """The current state of the resource does not allow this request."""

    code, status = "conflict", 409


class IdempotencyInFlight(RequestRefused):
    """Another request with the same Idempotency-Key is running; `retry_after` is always set."""

    code, status = "idempotency_in_flight", 409
    should_retry = True


class PayloadTooLarge(RequestRefused):
    """The body exceeds the gateway's limit of bytes or of JSON values."""

    code, status = "payload_too_large", 413


class UnsupportedMediaType(RequestRefused):
    """The body is not declared as uncompressed JSON in UTF-8."""

    code, status = "unsupported_media_type", 415
    compressed: bool = False
    """The body is compressed; the client must send it without Content-Encoding."""


class ValidationFailed(RequestRefused):
    """The body is JSON, but not of the documented shape. Each entry of `details` names a field."""

    code, status = "validation_error", 422


class HeadersTooLarge(RequestRefused):
    """The request line and headers, or the trailers, exceed the gateway's limits."""

    code, status = "headers_too_large", 431


class CallerRefused(PlatformError):
    """The credentials are missing or not valid, or do not allow this request."""

    should_retry = False


class MissingCredentials(CallerRefused):
    """The request has no credentials. RFC 6750, section 3, asks for a challenge without an error attribute."""

    code, status = "missing_credentials", 401

    def __init__(self) -> None:
        super().__init__(
            "No API key was sent. Send it as 'Authorization: Bearer <key>', 'X-API-Key: <key>' or 'api-key: <key>'.",
        )


class InvalidApiKey(CallerRefused):
    """The API key is malformed, unknown, revoked or expired.

    All four cases share one message, so that a client cannot distinguish them. A caller of this class passes another
    message only for the way in which a key was sent, before the key itself is looked at.
    """

    code, status = "invalid_api_key", 401

    def __init__(self, message: str | None = None) -> None:
        super().__init__(
            message or "This API key is not valid. Check that it was copied whole, or ask your operator for a new one.",
        )


class InsufficientScope(CallerRefused):
    """The key is valid, but lacks the scope that the route requires."""

    code, status = "insufficient_scope", 403

    def __init__(self, scope: str) -> None:
        super().__init__(f"This API key lacks the scope '{scope}'. Ask your operator to grant it.")
        self.scope = scope


class ModelNotAllowed(CallerRefused):
    """The model exists, but this key may not use it."""

    code, status = "model_not_allowed", 403


class PriceUnknown(CallerRefused):
    """A budget applies, and the price of the model is not known. The operator has to configure a price."""

    code, status = "price_unknown", 403


class RateLimited(PlatformError):
    """A limit of the gateway is reached. `retry_after` is set, unless the request exceeds the whole limit."""

    code, status = "rate_limited", 429


class BudgetExceeded(RateLimited):
    """A limit on costs is reached."""

    code, status = "budget_exceeded", 429


class Unavailable(PlatformError):
    """A part of the gateway is unavailable or not configured."""


class AuthUnavailable(Unavailable):
    """PostgreSQL is unavailable, and this key was not verified recently."""

    code, status = "auth_unavailable", 503


class LimiterUnavailable(Unavailable):
    """Redis is unavailable, and a rule with `on_outage: closed` applies."""

    code, status = "limiter_unavailable", 503


class LedgerUnavailable(Unavailable):
    """The ledger cannot record this request, and the policy is to refuse such requests."""

    code, status = "ledger_unavailable", 503


class IdempotencyUnavailable(Unavailable):
    """Redis is unavailable, so the Idempotency-Key cannot be checked, and the policy is to refuse such requests."""

    code, status = "idempotency_unavailable", 503


class ProviderNotConfigured(Unavailable):
    """The provider has no usable credential, or does not know the model or address of the route."""

    code, status = "provider_not_configured", 503
    should_retry = False


class Overloaded(Unavailable):
    """This worker has reached its limit of concurrent requests, connections or body bytes."""

    code, status = "overloaded", 503


class Draining(Unavailable):
    """This instance is shutting down and refuses new requests."""

    code, status = "draining", 503


class ProviderFailed(PlatformError):
    """The provider failed. A provider's 401 or 403 is never sent to the client as 401."""


class ProviderError(ProviderFailed):
    """The provider responded with a server error."""

    code, status = "provider_error", 502


class ProviderBadResponse(ProviderFailed):
    """The provider's response is incomplete, too large, or not of its documented format."""

    code, status = "provider_bad_response", 502


class ProviderAuthFailed(ProviderFailed):
    """The provider refused the gateway's credential."""

    code, status = "provider_auth_failed", 502
    should_retry = False


class ProviderUnavailable(ProviderFailed):
    """The provider cannot be reached, closed the connection, or is overloaded."""

    code, status = "provider_unavailable", 503
    default_retry_after = 1.0


class ProviderRateLimited(ProviderFailed):
    """The provider's rate limit for the gateway is reached."""

    code, status = "provider_rate_limited", 503
    default_retry_after = 1.0


class ProviderQuotaExhausted(ProviderFailed):
    """The gateway's account at the provider has no quota left; waiting does not help."""

    code, status = "provider_quota_exhausted", 503
    should_retry = False


class ProviderTimeout(ProviderFailed):
    """The provider did not respond within a timeout."""

    code, status = "provider_timeout", 504
    should_retry = False  # the time is spent, and the first try may still be billed


class InternalError(PlatformError):
    """A bug in the gateway."""

    code, status = "internal_error", 500
    should_retry = False


class TemporaryProblem(str):
    """A problem of a configuration that another start may not find, such as a secret store that does not respond."""

    __slots__ = ()


class ConfigurationError(Exception):
    """The configuration is not valid. `problems` has one sentence for each problem, with what to do; keys in them are
    masked."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = [type(problem)(mask_keys(problem)) for problem in problems]
        super().__init__("; ".join(self.problems))


def only_temporary(problems: Sequence[str]) -> bool:
    """Return whether there are problems, and another start may find none of them."""
    return bool(problems) and all(isinstance(problem, TemporaryProblem) for problem in problems)


class SecretError(Exception):
    """A secret could not be read. The message never contains key material."""


class SecretNotFound(SecretError):
    """The secret store responded that the secret does not exist."""


class SecretStoreUnavailable(SecretError):
    """The secret store did not respond or refused the request, so it is not known whether the secret exists."""
