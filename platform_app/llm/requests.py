"""A call to a model on its way out: as the caller asked, and as one attempt at one provider."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from platform_app.llm.models.route import Route
from platform_app.llm.providers.anthropic.capabilities import ModelCapabilities


class Operation(StrEnum):
    """What a model is asked for; the values are those of `gen_ai.operation.name`."""

    CHAT = "chat"
    EMBEDDINGS = "embeddings"


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What a caller asks for, already validated at the edge."""

    model: str | None
    """The public model name; None for the platform's default."""
    body: Mapping[str, Any]
    """OpenAI's request fields but model and stream."""
    operation: Operation = Operation.CHAT
    stream: bool = False
    extra_fields: tuple[str, ...] = ()
    """Of the body, from request_fields.extra_fields: not every provider may get them."""


@dataclass(slots=True)
class AttemptLog:
    """What a request's call went through so far. One per request; the route that is tried writes it."""

    attempts: int = 0
    """Calls that were sent to providers."""
    route: Route | None = None
    """The last one tried: the one that answered, where one did."""
    before_attempt: Callable[[Route], None] | None = None
    """Called before each call is sent, when it is counted already."""

    failed: list[Route] | None = None
    """The route of each call that failed."""

    def fail(self, route: Route) -> int:
        """A call along this route failed: how often it has now."""
        self.failed = [*(self.failed or ()), route]
        return sum(each is route for each in self.failed)

    def attempt(self, route: Route) -> None:
        """A call along this route is sent now."""
        self.route = route
        self.attempts += 1
        if self.before_attempt is not None:
            self.before_attempt(route)


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One request's call, before it is known which route serves it."""

    body: Mapping[str, Any]
    """OpenAI's request fields but model and stream."""
    deadline: float
    """The event loop's time at which everything must be over, retries, waits and the last chunk included."""
    operation: Operation = Operation.CHAT
    stream: bool = False
    attempt_log: AttemptLog = field(default_factory=AttemptLog)


@dataclass(frozen=True, slots=True)
class UpstreamCall:
    """One attempt at one provider."""

    model: str
    """The model's name at the provider."""
    body: Mapping[str, Any]
    timeout_seconds: float
    """For all of it, until the last byte."""
    operation: Operation = Operation.CHAT
    stream: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent along, beside the provider's own: trace context. Nothing else of a caller's headers reaches a provider."""
    capabilities: ModelCapabilities | None = None
    """What the model takes, where the adapter has to know."""
