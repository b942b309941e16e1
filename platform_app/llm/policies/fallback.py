"""Choose which route of a model gets a request first, and which one gets it after a failure."""

import asyncio
import random
import time
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
from platform_app.observability.record import FALLBACK, RequestRecord

_log = get_logger("policies")


@dataclass(frozen=True, slots=True)
class RouteCandidate:
    """A route and the upstream that sends a call along it."""

    route: Route
    upstream: Upstream


class Fallback:
    """Distribute calls over the routes that have a weight, and fall back to the others in the config file's order,
    routes with a weight before routes without. If no route has a weight, the first route gets all calls."""

    def __init__(self, candidates: Sequence[RouteCandidate], draw: Callable[[], float] = random.random) -> None:
        """`draw` returns a random number in [0, 1)."""
        weighted = [candidate for candidate in candidates if candidate.route.weight is not None]
        rest = [candidate for candidate in candidates if candidate.route.weight is None]
        self._orders = [(first, *(other for other in weighted if other is not first), *rest) for first in weighted]
        self._orders = self._orders or [tuple(candidates)]
        self._bounds = list(accumulate(candidate.route.weight or 0 for candidate in weighted))
        self._draw = draw

    async def send(self, call: ModelCall) -> UpstreamResponse:
        """See Upstream.send. Try the next route after each error that the failure table lets fall back. Other errors
        are raised at once. After an error that concerns the upstream model itself, routes to the same model are
        skipped.

        If every route failed, raise the error that `most_useful` chooses.
        """
        failures: list[PlatformError] = []
        left = list(self._order())
        while left:
            candidate = left.pop(0)
            try:
                return await candidate.upstream.send(call)
            except PlatformError as error:
                policy = failure_policy_of(error)
                if not policy.fall_back:
                    raise
                failures.append(error)
                if policy.other_model_only:
                    model = candidate.route.upstream_model
                    left = [other for other in left if other.route.upstream_model != model]
                if asyncio.get_running_loop().time() >= call.deadline:
                    break
                if left:
                    _note(candidate.route, left[0].route, error, call.attempt_log.record)
        raise most_useful(failures)

    def _order(self) -> tuple[RouteCandidate, ...]:
        if len(self._orders) == 1:
            return self._orders[0]
        return self._orders[bisect_right(self._bounds, self._draw() * self._bounds[-1])]


def most_useful(failures: Sequence[PlatformError]) -> PlatformError:
    """Return the error that the caller gets if every route failed.

    That is the error with the shortest wait before a retry, since a caller can act on it. If no error has a wait, it is
    that of the first route, which the operator preferred. Errors that refuse the request for one model count only if no
    route failed otherwise: another model may accept the request later.
    """
    failures = [error for error in failures if not isinstance(error, RequestRefused)] or failures
    waits = [error for error in failures if error.wait_seconds is not None]
    return min(waits, key=lambda error: error.wait_seconds or 0) if waits else failures[0]


def _note(failed: Route, to: Route, error: PlatformError, record: RequestRecord) -> None:
    reason = reason_label(error)
    now = time.perf_counter()
    record.hops.append((FALLBACK, now, now, reason))
    metrics.PROVIDER_FALLBACKS.labels(failed.provider, reason).inc()
    _log.info(
        "provider_fallback",
        model=failed.public_model,
        provider=failed.provider,
        to_provider=to.provider,
        to_model=to.upstream_model,
        reason=reason,
    )
