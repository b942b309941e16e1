"""What is noted about one request while it passes through; it ends as the access line."""

from contextvars import ContextVar
from dataclasses import dataclass, field

from platform_app.errors import CallerRefused, ModelNotFound, PlatformError, RateLimited
from platform_app.observability.tracing import TraceContext

_DENIALS = (CallerRefused, ModelNotFound, RateLimited)


@dataclass(slots=True)
class RequestContext:
    """Made by the middleware, filled in by the parts that a request meets. Holds no secret and no prompt."""

    request_id: str
    trace: TraceContext
    method: str
    client_address: str
    started: float
    """time.perf_counter() at the request's first byte."""
    openai: bool = False
    """Whether the caller speaks OpenAI's contract: so does its error then."""
    route: str = "unmatched"
    """The route's template, never the path that the client typed."""
    key_id: str | None = None
    decision: str = "allow"
    """allow, or deny where auth, scope, model or limit refused."""
    reason: str | None = None
    """The error code of the answer, or that it was given before; None where all went well."""
    model: str | None = None
    provider: str | None = None
    response_headers: dict[str, str] = field(default_factory=dict)
    """Added to the answer whatever it turns out to be; lower-case names."""

    def note_error(self, error: PlatformError) -> None:
        """The answer is this error: for the access line and the access decision."""
        self.reason = error.code
        if isinstance(error, _DENIALS):
            self.decision = "deny"

    def elapsed_ms(self, now: float) -> float:
        """Milliseconds from the request's start to `now`, which is a time.perf_counter()."""
        return round((now - self.started) * 1000, 3)


_current: ContextVar[RequestContext | None] = ContextVar("request", default=None)


def set_current_request(context: RequestContext) -> None:
    """Called once per request, in the request's own task."""
    _current.set(context)


def current_request() -> RequestContext | None:
    """For log lines only: which request the running task belongs to."""
    return _current.get()
