"""Choose which route of a model gets a request first, and which one gets it after a failure."""

import asyncio
import math
import random
import time
from collections.abc import Callable, Sequence

from platform_app.errors import PlatformError, RequestRefused
from platform_app.llm.errors import BreakerOpen, stored_elsewhere
from platform_app.llm.interfaces import UpstreamResponse
from platform_app.llm.models.route import Route
from platform_app.llm.policies.choice.route_choice import RouteCandidate, RouteChoice, RouteOrder
from platform_app.llm.policies.failure_table import failure_policy_of, reason_label
from platform_app.llm.requests import ModelCall
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger
from platform_app.observability.record import FALLBACK, RequestRecord

_log = get_logger("policies")


class Fallback:
    """Send a call along the first route of its order (choice/route_choice.py), and after a failure along the next one.
    A pinned call goes along its route alone."""

    def __init__(
        self,
        candidates: Sequence[RouteCandidate],
        draw: Callable[[], float] = random.random,
        choice: RouteChoice | None = None,
    ) -> None:
        """
        Args:
            candidates: the model's routes.
            draw: returns a random number in [0, 1), for the default choice.
            choice: orders the routes; by default by weight, with affinity.
        """
        self._choice = choice or RouteChoice(candidates, draw=draw)
        self._pinned = {(each.route.provider, each.route.upstream_model): each for each in candidates}
        model = candidates[0].route.public_model
        self._count = {name: metrics.SESSION_ROUTES.labels(model, name).inc for name in metrics.SESSION_OUTCOMES}

    async def send(self, call: ModelCall) -> UpstreamResponse:
        """See Upstream.send. Try the next route after each error that the failure table lets fall back. Other errors
        are raised at once. After an error that concerns the upstream model itself, routes to the same model are
        skipped.

        If every route failed, raise the error that `most_useful` chooses.
        """
        if call.pinned is not None:
            return await self._send_pinned(call, call.pinned)
        order = self._choice.order(call)
        failures: list[PlatformError] = []
        left = list(order.candidates)
        while left:
            candidate = left.pop(0)
            try:
                response = await candidate.upstream.send(call)
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
            else:
                if order.preferred is not None:
                    self._count[_session_outcome(order, candidate, failures)]()
                return response
        raise most_useful(failures)

    async def _send_pinned(self, call: ModelCall, pinned: tuple[str, str]) -> UpstreamResponse:
        candidate = self._pinned.get(pinned)
        if candidate is None:
            raise stored_elsewhere()
        self._count["pinned"]()
        return await candidate.upstream.send(call)


def _session_outcome(order: RouteOrder, responded: RouteCandidate, failures: Sequence[PlatformError]) -> str:
    """Return which route a session's call got, and why: a value of SESSION_OUTCOMES."""
    if responded is order.preferred:
        return "first_choice"
    if order.candidates[0] is not order.preferred:
        return "strategy"
    return "breaker_open" if isinstance(failures[0], BreakerOpen) else "failed"


def most_useful(failures: Sequence[PlatformError]) -> PlatformError:
    """Return the error that the caller gets if every route failed.

    That is the error with the shortest wait before a retry, since a caller can act on it. If no error has a wait, it is
    that of the first route, which the operator preferred. Errors that refuse the request for one model count only if no
    route failed otherwise: another model may accept the request later.
    """
    failures = [error for error in failures if not isinstance(error, RequestRefused)] or failures
    return min(failures, key=lambda error: math.inf if error.wait_seconds is None else error.wait_seconds)


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
