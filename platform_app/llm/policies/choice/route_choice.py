"""The order in which the routes of a model are tried for one call."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from platform_app.llm.interfaces import Upstream
from platform_app.llm.models.route import Route
from platform_app.llm.policies.choice.rendezvous import Rendezvous
from platform_app.llm.policies.choice.session_key import session_key
from platform_app.llm.policies.choice.strategies import Draw, Strategy, Weighted
from platform_app.llm.requests import ModelCall, Operation


@dataclass(frozen=True, slots=True)
class RouteCandidate:
    """A route and the upstream that sends a call along it."""

    route: Route
    upstream: Upstream


@dataclass(frozen=True, slots=True)
class RouteOrder:
    """The routes for one call."""

    candidates: Sequence[RouteCandidate]
    """All routes, the one to try first at the front."""
    preferred: RouteCandidate | None = None
    """The first choice of the call's session; None if the call has no session, or the model no affinity."""


class RouteChoice:
    """Orders the routes of one model. Routes with a weight come before routes without, which keep the config file's
    order. If no route has a weight, the order is the config file's."""

    def __init__(
        self,
        candidates: Sequence[RouteCandidate],
        strategy: Strategy | None = None,
        *,
        affinity: bool = True,
        draw: Draw = random.random,
    ) -> None:
        """
        Args:
            candidates: the model's routes.
            strategy: chooses among the routes with a weight, in their order; by default by weight.
            affinity: whether the turns of a session stay on one route.
            draw: returns a random number in [0, 1).
        """
        weighted = [candidate for candidate in candidates if candidate.route.weight is not None]
        rest = [candidate for candidate in candidates if candidate.route.weight is None]
        weights = [candidate.route.weight for candidate in candidates if candidate.route.weight is not None]
        self._weighted, self._rest = weighted, rest
        self._strategy = strategy or Weighted(weights, draw)
        self._orders = [_first(each, weighted, rest) for each in weighted] or [RouteOrder(tuple(candidates))]
        self._rendezvous = None
        if affinity and len(weighted) > 1:
            names = [f"{each.route.provider}\n{each.route.label}" for each in weighted]
            self._rendezvous = Rendezvous(list(zip(names, weights, strict=True)))

    def order(self, call: ModelCall) -> RouteOrder:
        """Return the routes in the order in which this call tries them."""
        if len(self._orders) == 1:
            return self._orders[0]
        if self._rendezvous is not None:
            generates = call.operation is Operation.CHAT
            key = session_key(call.owner, call.session, call.body, generates=generates)
            if key is not None:
                return self._of_session(self._rendezvous.order(key), call.stream)
        return self._orders[self._strategy.first(call.stream)]

    def _of_session(self, indexes: list[int], stream: bool) -> RouteOrder:
        """Return the session's order, without the routes at its front that the strategy advises to leave. These come
        later, so that they are still tried if the others fail."""
        first = indexes[0]
        if self._strategy.should_leave(first, stream):
            left = [first, *(index for index in indexes[1:] if self._strategy.should_leave(index, stream))]
            indexes = [*(index for index in indexes if index not in left), *left]
        return RouteOrder((*(self._weighted[index] for index in indexes), *self._rest), self._weighted[first])


def _first(first: RouteCandidate, weighted: Sequence[RouteCandidate], rest: Sequence[RouteCandidate]) -> RouteOrder:
    return RouteOrder((first, *(other for other in weighted if other is not first), *rest))
