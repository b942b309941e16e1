"""Every error that a caller can be told about: stable code, HTTP status, and how long to wait.

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
    ├── CallerRefused                  who asks, or what they may do
    │   ├── MissingCredentials         401 missing_credentials
    │   ├── InvalidApiKey              401 invalid_api_key
    │   ├── InsufficientScope          403 insufficient_scope
    │   ├── ModelNotAllowed            403 model_not_allowed
    │   └── PriceUnknown               403 price_unknown
    ├── RateLimited                    429 rate_limited
    │   └── BudgetExceeded             429 budget_exceeded
    ├── Unavailable                    ours to mend; waiting helps where retry_after is set
    │   ├── AuthUnavailable            503 auth_unavailable
    │   ├── LimiterUnavailable         503 limiter_unavailable
    │   ├── LedgerUnavailable          503 ledger_unavailable
    │   ├── IdempotencyUnavailable     503 idempotency_unavailable
    │   ├── ProviderNotConfigured      503 provider_not_configured
    │   ├── Overloaded                 503 overloaded
    │   └── Draining                   503 draining
    ├── ProviderFailed                 the upstream's bad day
    │   ├── ProviderError              502 provider_error
    │   ├── ProviderBadResponse        502 provider_bad_response
    │   ├── ProviderAuthFailed         502 provider_auth_failed
    │   ├── ProviderUnavailable        503 provider_unavailable
    │   ├── ProviderRateLimited        503 provider_rate_limited
    │   ├── ProviderQuotaExhausted     503 provider_quota_exhausted
    │   └── ProviderTimeout            504 provider_timeout
    └── InternalError                  500 internal_error: a bug, and only a bug

Messages are written for the person who must act. They never hold a key, a digest, a secret, a table name
or an upstream credential.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar


class PlatformError(Exception):
    """Base of all errors that reach a caller.

    `details` are short sentences (one per problem); `retry_after` is in seconds, None where nobody said how long;
    `headers` are extra response headers, lower-case names; `param` is the field that is wrong, where one is.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    default_retry_after: ClassVar[float | None] = None
    """Seconds that a caller is told to wait where nobody said how long; None where waiting does not help."""
    should_retry: bool = True
    """Whether a client may send the same request again by itself. False where waiting cannot help, and where the
    gateway has used up its own tries."""
    tries: int = 0
    """How often the route that failed so was tried for this request."""
    provider_words: str | None = None
    """What a provider said of its failure, for the log: masked, one line, and never told to a caller."""

    def __init__(
        self,
        message: str,
        *,
        details: Sequence[str] | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
        param: str | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.details = list(details) if details else None
        self.retry_after = retry_after
        self.headers = dict(headers) if headers else {}
        if should_retry is not None:
            self.should_retry = should_retry

    @property
    def wait_seconds(self) -> float | None:
        """What a caller is told: `retry_after`, else the kind's default, for which our own retries do not wait."""
        if self.retry_after is not None:
            return self.retry_after
        return self.default_retry_after if self.should_retry else None


class RequestRefused(PlatformError):
    """The request itself must change before it can succeed."""

    should_retry = False


class InvalidRequest(RequestRefused):
    """The body is not what HTTP or JSON says it should be."""

    code, status = "invalid_request", 400


class ContextLengthExceeded(RequestRefused):
    """The provider says that prompt and answer do not fit the model."""

    code, status = "context_length_exceeded", 400


class ContentFiltered(RequestRefused):
    """The provider's content policy refused the request."""

    code, status = "content_filtered", 400


class ProviderRejectedRequest(RequestRefused):
    """The provider says that the request itself is wrong."""

    code, status = "provider_rejected_request", 400


class NotFound(RequestRefused):
    """There is nothing at this address."""

    code, status = "not_found", 404


class MethodNotAllowed(RequestRefused):
    """The address exists, the method does not."""

    code, status = "method_not_allowed", 405


class ModelNotFound(RequestRefused):
    """The catalog has no such model."""

    code, status = "model_not_found", 404


class Conflict(RequestRefused):
    """The thing is not in a state that allows this change."""

    code, status = "conflict", 409


class IdempotencyInFlight(RequestRefused):
    """Another request with the same Idempotency-Key is being answered; `retry_after` is always set."""

    code, status = "idempotency_in_flight", 409
    should_retry = True


class PayloadTooLarge(RequestRefused):
    """The body is larger than this gateway takes."""

    code, status = "payload_too_large", 413


class UnsupportedMediaType(RequestRefused):
    """The body is not declared as JSON."""

    code, status = "unsupported_media_type", 415


class ValidationFailed(RequestRefused):
    """The body is JSON, but not of the documented shape; each of `details` names a field."""

    code, status = "validation_error", 422


class HeadersTooLarge(RequestRefused):
    """One header, or all of them together, are larger than this gateway takes."""

    code, status = "headers_too_large", 431


class CallerRefused(PlatformError):
    """The credentials, or what they allow, are not enough."""

    should_retry = False


_REALM = 'Bearer realm="flowbiz-platform"'


class MissingCredentials(CallerRefused):
    """No credentials were sent. RFC 6750, section 3: a challenge without an error attribute."""

    code, status = "missing_credentials", 401

    def __init__(self) -> None:
        super().__init__(
            "No API key was sent. Send it as 'Authorization: Bearer <key>', 'X-API-Key: <key>' or 'api-key: <key>'.",
            headers={"www-authenticate": _REALM},
        )


class InvalidApiKey(CallerRefused):
    """One message for malformed, unknown, revoked and expired keys, so that none can be told apart. Another one says
    what is wrong with how a key was sent, before anything is known of the key itself."""

    code, status = "invalid_api_key", 401

    def __init__(self, message: str | None = None) -> None:
        super().__init__(
            message or "This API key is not valid. Check that it was copied whole, or ask your operator for a new one.",
            headers={"www-authenticate": f'{_REALM}, error="invalid_token"'},
        )


class InsufficientScope(CallerRefused):
    """The key is good, but was not granted the scope that the route needs."""

    code, status = "insufficient_scope", 403

    def __init__(self, scope: str) -> None:
        super().__init__(
            f"This API key lacks the scope '{scope}'. Ask your operator to grant it.",
            headers={"www-authenticate": f'{_REALM}, error="insufficient_scope", scope="{scope}"'},
        )


class ModelNotAllowed(CallerRefused):
    """The model exists, but not for this key."""

    code, status = "model_not_allowed", 403


class PriceUnknown(CallerRefused):
    """A budget applies, and what the model would cost is not known: the operator must state a price."""

    code, status = "price_unknown", 403


class RateLimited(PlatformError):
    """A limit of ours; `retry_after` is always set."""

    code, status = "rate_limited", 429


class BudgetExceeded(RateLimited):
    """A limit on what requests cost."""

    code, status = "budget_exceeded", 429


class Unavailable(PlatformError):
    """Something of ours is down or not set up."""


class AuthUnavailable(Unavailable):
    """The key store cannot be asked, and nothing recent is known of this key."""

    code, status = "auth_unavailable", 503


class LimiterUnavailable(Unavailable):
    """The limiter cannot be asked, and a rule says that then nobody passes."""

    code, status = "limiter_unavailable", 503


class LedgerUnavailable(Unavailable):
    """What this request does could not be recorded, and the policy says that then nothing is done."""

    code, status = "ledger_unavailable", 503


class IdempotencyUnavailable(Unavailable):
    """Whether a request's Idempotency-Key was used before cannot be told, and the policy says that then nothing is
    done."""

    code, status = "idempotency_unavailable", 503


class ProviderNotConfigured(Unavailable):
    """The provider's credential is missing, or the provider does not know the route's model."""

    code, status = "provider_not_configured", 503
    should_retry = False


class Overloaded(Unavailable):
    """This process answers as many requests at once as it is allowed to."""

    code, status = "overloaded", 503


class Draining(Unavailable):
    """This process is on its way out and takes no new requests."""

    code, status = "draining", 503


class ProviderFailed(PlatformError):
    """The upstream failed; an upstream 401 or 403 is never the client's 401."""


class ProviderError(ProviderFailed):
    """The provider answered with an error of its own."""

    code, status = "provider_error", 502


class ProviderBadResponse(ProviderFailed):
    """The provider answered with something that is not its documented shape."""

    code, status = "provider_bad_response", 502


class ProviderAuthFailed(ProviderFailed):
    """The provider refused our credential."""

    code, status = "provider_auth_failed", 502
    should_retry = False


class ProviderUnavailable(ProviderFailed):
    """The provider cannot be reached, or says that it is overloaded."""

    code, status = "provider_unavailable", 503
    default_retry_after = 1.0


class ProviderRateLimited(ProviderFailed):
    """The provider limits us."""

    code, status = "provider_rate_limited", 503
    default_retry_after = 1.0


class ProviderQuotaExhausted(ProviderFailed):
    """Our account at the provider is used up; waiting does not help."""

    code, status = "provider_quota_exhausted", 503
    should_retry = False


class ProviderTimeout(ProviderFailed):
    """The provider did not answer within the deadline."""

    code, status = "provider_timeout", 504
    should_retry = False  # the time is spent, and the first try may still be billed


class InternalError(PlatformError):
    """A bug of ours."""

    code, status = "internal_error", 500
    should_retry = False


class ConfigurationError(Exception):
    """The process cannot start as configured; `problems` names every one, each with its remedy."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)


class SecretError(Exception):
    """A secret could not be had. Never carries key material."""


class SecretNotFound(SecretError):
    """The store answered that it holds no such secret."""


class SecretStoreUnavailable(SecretError):
    """The store did not answer, or refused to: its fault or a permission's, and no word on the secret itself."""
