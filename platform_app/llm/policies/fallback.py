"""Which route of a model is asked first, and which next."""

import asyncio
import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from platform_app.errors import PlatformError, RequestRefused
from platform_app.llm.interfaces import Upstream, UpstreamResponse
from platform_app.llm.models.route import Route
from platform_app.llm.policies.failure_table import failure_policy_of, reason_label
from platform_app.llm.requests import ModelCall
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger

_log = get_logger("policies")


@dataclass(frozen=True, slots=True)
class RouteCandidate:
    """A route and the way along it."""

    route: Route
    upstream: Upstream


class Fallback:
    """Routes with a weight share the traffic; whichever was drawn, all others follow in the catalog's order, those with
    a weight before those without. Where no route has a weight, the first gets all."""

    def __init__(self, choices: Sequence[RouteCandidate], draw: Callable[[], float] = random.random) -> None:
        """`draw` gives numbers in [0, 1)."""
        weighted = [choice for choice in choices if choice.route.weight is not None]
        rest = [choice for choice in choices if choice.route.weight is None]
        self._orders = [(first, *(other for other in weighted if other is not first), *rest) for first in weighted]
        self._orders = self._orders or [tuple(choices)]
        self._bounds = list(accumulate(choice.route.weight or 0 for choice in weighted))
        self._draw = draw

    async def send(self, call: ModelCall) -> UpstreamResponse:
        """See Upstream.send. Goes on to the next route where the table says so; a request error ends it at once, except
        one that only says so of the route's own model.

        Raises the most useful error: see `most_useful`.
        """
        failures: list[PlatformError] = []
        left = list(self._order())
        while left:
            choice = left.pop(0)
            try:
                return await choice.upstream.send(call)
            except PlatformError as error:
                verdict = failure_policy_of(error)
                if not verdict.fall_back:
                    raise
                failures.append(error)
                if verdict.other_model_only:
                    model = choice.route.upstream_model
                    left = [other for other in left if other.route.upstream_model != model]
                if asyncio.get_running_loop().time() >= call.deadline:
                    break
                if left:
                    _note(choice.route, left[0].route, error)
        raise most_useful(failures)

    def _order(self) -> tuple[RouteCandidate, ...]:
        if len(self._orders) == 1:
            return self._orders[0]
        return self._orders[bisect_right(self._bounds, self._draw() * self._bounds[-1])]


def most_useful(failures: Sequence[PlatformError]) -> PlatformError:
    """The error that a caller gets where every route failed: the one that says soonest when to come again, which is
    what a caller can act on; where none does, that of the first route, which is the one that the operator wanted. That
    the request is wrong for one model counts only where no route failed otherwise: later another may take it."""
    failures = [error for error in failures if not isinstance(error, RequestRefused)] or failures
    waits = [error for error in failures if error.wait_seconds is not None]
    return min(waits, key=lambda error: error.wait_seconds or 0) if waits else failures[0]


def _note(left: Route, to: Route, error: PlatformError) -> None:
    reason = reason_label(error)
    metrics.PROVIDER_FALLBACKS.labels(left.provider, reason).inc()
    _log.info(
        "provider_fallback",
        model=left.public_model,
        provider=left.provider,
        to_provider=to.provider,
        to_model=to.upstream_model,
        reason=reason,
    )
