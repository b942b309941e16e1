"""Settings of the policies in platform_app/llm/policies: retry, breaker, fallback and deadlines."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from platform_app.config.reading.checks import Check, ConfigModel
from platform_app.config.reading.explain import Problem

Seconds = Annotated[float, Field(gt=0, le=600)]


class RetryConfig(ConfigModel):
    """Retries of a route after an error that may be temporary."""

    max_attempts: Annotated[int, Field(ge=1, le=10)] = Field(
        3, description="Attempts at one route for one request, including the first; 1: no retry."
    )
    base_seconds: Seconds = Field(
        0.25, description="The wait before the n-th retry is drawn from 0 to this × 2^(n-1), up to max_seconds."
    )
    max_seconds: Seconds = 4.0
    retry_after_cap_seconds: Annotated[float, Field(ge=0, le=600)] = Field(
        10.0,
        description="A model's only route is not tried again for a request if it asks for a longer wait (Retry-After).",
    )
    retry_after_max_seconds: Annotated[float, Field(ge=0, le=600)] = Field(
        3.0,
        description="For models with several routes: a Retry-After up to this is waited for on the same route, a "
        "longer one ends its tries; no other wait between two tries is longer either.",
    )

    FORMER_NAMES: ClassVar[Mapping[str, str]] = {"retry_after_cap_with_fallback_seconds": "retry_after_max_seconds"}

    def checks(self) -> Iterable[Check]:
        """See ConfigModel.checks."""
        return (self._ordered,)

    def _ordered(self) -> Iterator[Problem]:
        if self.max_seconds < self.base_seconds:
            yield ("max_seconds",), f"{self.max_seconds:g} is below base_seconds, {self.base_seconds:g}; raise it"


class BreakerConfig(ConfigModel):
    """When a route's breaker opens, and how it closes again."""

    failure_ratio: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="It opens when this share of the calls in the window failed, and there were minimum_calls."
    )
    minimum_calls: Annotated[int, Field(ge=1, le=100_000)] = 10
    window_seconds: Seconds = 30.0
    open_seconds: Seconds = Field(15.0, description="Nothing is sent to the route for this long; then probes are.")
    probes: Annotated[int, Field(ge=1, le=1000)] = Field(
        2, description="Concurrent probes. That many successes close the breaker; one failure opens it again."
    )


class PoliciesConfig(ConfigModel):
    """Policies for calls to providers; the same for all providers."""

    retry: RetryConfig = RetryConfig()
    breaker: BreakerConfig = BreakerConfig()
    first_token_seconds: Seconds | None = Field(
        None,
        description="For routes that do not set it: a stream that has no content by then is cancelled, and the next "
        "route is tried.",
    )
    queue_seconds: Seconds = Field(
        5.0, description="A call waits no longer for its turn at a provider with max_concurrent."
    )
