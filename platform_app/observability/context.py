"""The notes about one request, which end as its access line."""

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from platform_app.errors import CallerRefused, ModelNotFound, PlatformError, RateLimited
from platform_app.observability.record import RequestRecord
from platform_app.observability.tracing.content import ContentCapture
from platform_app.observability.tracing.trace_context import TraceContext

_DENIALS = (CallerRefused, ModelNotFound, RateLimited)


class LimitDecision(Protocol):
    """The limiter's decision, as far as response headers show it; rate_limit.limiter.Decision is one."""

    @property
    def states(self) -> Sequence[Any]:
        """Return each rule that applies, with its remaining units."""
        ...

    @property
    def denied_by(self) -> Any | None:
        """Return the state of the rule that denied the request, or None."""
        ...


class ClientContract(StrEnum):
    """Whose API the client speaks. It decides the shape of errors."""

    PLATFORM = "platform"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"


@dataclass(slots=True)
class RequestContext:
    """Created by the middleware and filled in while the request is processed. It has no secret, and no prompt
    unless the operator opted in."""

    request_id: str
    trace: TraceContext
    method: str
    client_address: str
    started: float
    """time.perf_counter() at the request's first byte."""
    contract: ClientContract = ClientContract.PLATFORM
    """Whose API the client speaks; errors have that API's shape."""
    route: str = "unmatched"
    """The route's template, never the client's path."""
    record: RequestRecord = field(default_factory=RequestRecord)
    """The hops and attempts."""
    key_id: str | None = None
    owner: str | None = None
    """The owner of the key."""
    decision: str = "allow"
    """allow, or deny where auth, scope, model or limit refused."""
    reason: str | None = None
    """The error code of the response, or that the response was replayed; None for a success."""
    model: str | None = None
    requested_model: str | None = None
    """The name that the client requested, if it is an alias of `model`, or `model` is a wildcard that matched it."""
    provider: str | None = None
    upstream_model: str | None = None
    """The provider's name of the model that was called last."""
    attempts: int = 0
    """Calls to providers, retries and fallbacks included."""
    limits: LimitDecision | None = None
    """The limiter's decision; None where no rule applies or the limiter was not called."""
    content: ContentCapture | None = None
    """The prompt and output for the request's trace; None unless the operator opted in."""
    idempotency_unavailable: bool = False
    """The Idempotency-Key could not be checked, and the policy allows the request."""

    def note_error(self, error: PlatformError) -> None:
        """Note the error that the client receives, for the access line and the access decision."""
        self.reason = error.code
        if isinstance(error, _DENIALS):
            self.decision = "deny"

    def elapsed_ms(self, now: float) -> float:
        """Return the milliseconds from the request's start to `now`, a time.perf_counter()."""
        return round((now - self.started) * 1000, 3)


_current: ContextVar[RequestContext | None] = ContextVar("request", default=None)


def set_current_request(context: RequestContext) -> None:
    """Bind the context to the running task. Called once per request, in the request's task."""
    _current.set(context)


def current_request() -> RequestContext | None:
    """Return the context of the running task's request. For log lines only."""
    return _current.get()
