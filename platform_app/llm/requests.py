"""A call to a model: what the caller requests, the call through the policies, and one attempt at one provider."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from platform_app.llm.formats import ApiFormat
from platform_app.llm.models.route import Route
from platform_app.llm.providers.anthropic.capabilities import ModelCapabilities
from platform_app.llm.translation.chat_request import chat_request
from platform_app.observability.record import AttemptRecord, RequestRecord
from platform_app.observability.tracing.trace_context import TraceContext
from platform_app.value_types import request_dataclass


class Operation(StrEnum):
    """The operations of a model. The values are those of `gen_ai.operation.name`."""

    CHAT = "chat"
    EMBEDDINGS = "embeddings"
    COUNT_TOKENS = "count_tokens"
    """Counts the tokens of a chat's request. It generates nothing and is not billed."""


@request_dataclass(frozen=True, slots=True)
class ModelRequest:
    """What a caller requests, already validated by the API."""

    model: str | None
    """The public model name; None for the platform's default."""
    body: Mapping[str, Any]
    """The request's fields in its format, but model and stream."""
    operation: Operation = Operation.CHAT
    stream: bool = False
    extra_fields: tuple[str, ...] = ()
    """The body's fields that not every provider may get, from request_fields.extra_fields."""
    format: ApiFormat = ApiFormat.CHAT
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of the client that belong to its format (`anthropic-beta`). Only a provider of the same format gets
    them."""
    session: str | None = None
    """The client's own name of its session, from a header or a field of the body; None if it sends none."""
    pinned: tuple[str, str] | None = None
    """The provider and the upstream model that alone can serve the request, because the provider stores what the
    request refers to (`previous_response_id`)."""
    stored_model: str | None = None
    """The public model that stored what the request refers to; the key must be allowed to use it too."""
    stored_tokens: int = 0
    """The tokens of what the request refers to: a part of its input."""
    offered_tools: tuple[str, ...] = ()
    """Those of `extra_fields` that are left out for a provider that must not get them, instead of a refusal:
    request_fields.offered_tools."""


@dataclass(slots=True)
class AttemptLog:
    """The attempts of one request so far. There is one for each request; the routes write it."""

    attempts: int = 0
    """The number of calls that were sent to providers."""
    route: Route | None = None
    """The last route that was tried: the one that responded, if one did."""
    before_attempt: Callable[[Route], None] | None = None
    """Called before each call is sent, after it was counted."""

    failed: list[Route] | None = None
    """The route of each failed call."""
    record: RequestRecord = field(default_factory=RequestRecord)
    """The request's record, for hops and attempts."""
    trace: TraceContext | None = None
    """The request's trace; None where no request is traced, as in `check`."""

    def fail(self, route: Route) -> int:
        """Record a failed call, and return how many calls along this route have failed."""
        self.failed = [*(self.failed or ()), route]
        return sum(each is route for each in self.failed)

    def attempt(self, route: Route) -> None:
        """Record that a call along this route is sent now."""
        self.route = route
        self.attempts += 1
        if self.before_attempt is not None:
            self.before_attempt(route)


@request_dataclass(frozen=True, slots=True)
class ModelCall:
    """One request's call, before a route is chosen."""

    body: Mapping[str, Any]
    """The request's fields in its format, but model and stream."""
    deadline: float
    """The event loop's time by which the call must end, retries, waits and the last chunk included."""
    operation: Operation = Operation.CHAT
    stream: bool = False
    attempt_log: AttemptLog = field(default_factory=AttemptLog)
    format: ApiFormat = ApiFormat.CHAT
    headers: Mapping[str, str] = field(default_factory=dict)
    """See ModelRequest.headers."""
    session: str | None = None
    """See ModelRequest.session."""
    pinned: tuple[str, str] | None = None
    """See ModelRequest.pinned."""
    owner: str = ""
    """The owner of the API key, who has the session."""


@request_dataclass(frozen=True, slots=True)
class UpstreamCall:
    """One attempt at one provider."""

    model: str
    """The model's name at the provider."""
    body: Mapping[str, Any]
    timeout_seconds: float
    """The timeout of the whole attempt, until the last byte."""
    operation: Operation = Operation.CHAT
    stream: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent in addition to the provider's own headers: trace context. No other header of a caller reaches a provider."""
    capabilities: ModelCapabilities | None = None
    """What the model supports, if the adapter needs to know."""
    record: AttemptRecord | None = None
    """Where the client for providers notes the server, the status and the provider's request id."""
    format: ApiFormat = ApiFormat.CHAT
    """The format of `body`. An adapter whose provider speaks it sends the body on unchanged, and returns the response
    in it; every other adapter translates `chat_body()` and returns chat completions."""
    format_headers: Mapping[str, str] = field(default_factory=dict)
    """See ModelRequest.headers."""

    def chat_body(self) -> Mapping[str, Any]:
        """Return the body as a chat completion's.

        Raises:
            UnsupportedByProvider: a chat completion cannot express the request; the error names the field.
        """
        if self.format is ApiFormat.CHAT:
            return self.body
        return chat_request(self.body, self.format)

    def with_body(self, body: Mapping[str, Any]) -> "UpstreamCall":
        """Return the same call with another body in its format."""
        return replace(self, body=body)
