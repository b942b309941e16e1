"""The strategies of a model: which of its routes with a weight gets a call.

A strategy decides alone for calls without a session. For a call of a session, it only says whether the call should
leave the session's route, because the route is far worse than the others.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Protocol

from platform_app.llm.policies.choice.route_load import RouteLoad

BUSY_FACTOR = 1.25
"""A session leaves a route that has more than this times its share of the calls in flight, and BUSY_CALLS more."""
BUSY_CALLS = 4
EQUAL_FACTOR = 1.25
"""Routes whose time to the first content is within this factor of the best share the calls by weight."""
SLOW_FACTOR = 2.0
"""A session leaves a route that takes more than this times the best route's time to the first content."""
EXPLORED_SHARE = 0.05
"""The share of the calls that use a route whatever its estimate, so that a route that recovered is noticed."""

Draw = Callable[[], float]
"""Returns a random number in [0, 1)."""


class Strategy(Protocol):
    """Chooses among the routes of one model that have a weight, by index."""

    def first(self, stream: bool) -> int:
        """Return the route for a call without a session; `stream`: it requests a stream."""
        ...

    def should_leave(self, index: int, stream: bool) -> bool:
        """Return whether a session's call should leave this route for its next choice."""
        ...


class Weighted:
    """Draws a route by weight."""

    def __init__(self, weights: Sequence[int], draw: Draw) -> None:
        self._bounds = list(accumulate(weights))
        self._draw = draw

    def first(self, stream: bool) -> int:
        """See Strategy.first."""
        return bisect_right(self._bounds, self._draw() * self._bounds[-1])

    def should_leave(self, index: int, stream: bool) -> bool:
        """See Strategy.should_leave."""
        return False


class LeastBusy:
    """Chooses the route with the fewest calls in flight of this process, relative to its weight."""

    def __init__(self, weights: Sequence[int], loads: Sequence[RouteLoad], draw: Draw) -> None:
        self._weights, self._loads, self._draw = weights, loads, draw
        self._total = sum(weights)

    def first(self, stream: bool) -> int:
        """See Strategy.first. Routes that are equally busy share the calls by weight."""
        busy = [load.in_flight / weight for load, weight in zip(self._loads, self._weights, strict=True)]
        least = min(busy)
        return _drawn([index for index, each in enumerate(busy) if each == least], self._weights, self._draw)

    def should_leave(self, index: int, stream: bool) -> bool:
        """See Strategy.should_leave."""
        whole = sum(load.in_flight for load in self._loads) + 1
        return self._loads[index].in_flight >= BUSY_FACTOR * whole * self._weights[index] / self._total + BUSY_CALLS


class Latency:
    """Chooses among the routes with the shortest time to the first content. A route that was not observed yet counts as
    one of them."""

    def __init__(self, weights: Sequence[int], loads: Sequence[RouteLoad], draw: Draw) -> None:
        self._weights, self._loads, self._draw = weights, loads, draw
        self._all = range(len(weights))

    def first(self, stream: bool) -> int:
        """See Strategy.first."""
        if self._draw() < EXPLORED_SHARE:
            return _drawn(self._all, self._weights, self._draw)
        limit = EQUAL_FACTOR * self._best(stream)
        fast = [index for index in self._all if self._seconds(index, stream) <= limit]
        return _drawn(fast, self._weights, self._draw)

    def should_leave(self, index: int, stream: bool) -> bool:
        """See Strategy.should_leave."""
        slow = self._seconds(index, stream) > SLOW_FACTOR * self._best(stream)
        return slow and self._draw() >= EXPLORED_SHARE

    def _seconds(self, index: int, stream: bool) -> float:
        return self._loads[index].first_content_seconds(stream) or 0.0

    def _best(self, stream: bool) -> float:
        """Return the shortest time of the observed routes; infinite if there is none."""
        known = (load.first_content_seconds(stream) for load in self._loads)
        return min((seconds for seconds in known if seconds is not None), default=math.inf)


def _drawn(indexes: Sequence[int], weights: Sequence[int], draw: Draw) -> int:
    bounds = list(accumulate(weights[index] for index in indexes))
    return indexes[bisect_right(bounds, draw() * bounds[-1])]
