import random
from collections import Counter

import pytest

from platform_app.llm.policies.choice.route_load import RouteLoad
from platform_app.llm.policies.choice.strategies import (
    BUSY_CALLS,
    EXPLORED_SHARE,
    Latency,
    LeastBusy,
    Weighted,
)


def observed(*seconds: float | None) -> list[RouteLoad]:
    """Return loads whose streams took this long until their first content; None: not observed."""
    loads = []
    for each in seconds:
        load = RouteLoad(clock=lambda: 0.0)
        if each is not None:
            load.responded(True, -each)
        loads.append(load)
    return loads


def busy(*calls: int) -> list[RouteLoad]:
    loads = observed(*(None for _ in calls))
    for load, count in zip(loads, calls, strict=True):
        load.in_flight = count
    return loads


def chosen(strategy: Weighted | LeastBusy | Latency, calls: int = 4000) -> list[float]:
    counts = Counter(strategy.first(True) for _ in range(calls))
    return [counts[index] / calls for index in range(3)]


def test_weighted_draws_by_weight() -> None:
    shares = chosen(Weighted([1, 2, 1], random.Random(3).random))
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_least_busy_compares_calls_with_weights() -> None:
    assert LeastBusy([1, 2, 1], busy(2, 3, 2), lambda: 0.0).first(True) == 1
    assert LeastBusy([1, 1, 1], busy(2, 3, 1), lambda: 0.0).first(True) == 2


def test_least_busy_draws_among_equal_routes_by_weight() -> None:
    shares = chosen(LeastBusy([1, 3, 1], busy(0, 0, 5), random.Random(3).random))
    assert shares == pytest.approx([0.25, 0.75, 0], abs=0.03)


@pytest.mark.parametrize(
    ("calls", "leaves"), [((BUSY_CALLS, 0, 0), False), ((9, 4, 4), False), ((14, 4, 4), True), ((40, 40, 40), False)]
)
def test_session_leaves_a_route_far_above_its_share(calls: tuple[int, ...], leaves: bool) -> None:
    assert LeastBusy([1, 1, 1], busy(*calls), lambda: 0.0).should_leave(0, True) is leaves


def test_latency_prefers_fast_and_unknown_routes() -> None:
    shares = chosen(Latency([1, 1, 1], observed(0.5, 0.6, 2.0), random.Random(3).random))
    assert shares[2] == pytest.approx(EXPLORED_SHARE / 3, abs=0.01)
    assert shares[0] == pytest.approx(shares[1], abs=0.05)
    assert chosen(Latency([1, 1, 1], observed(0.5, None, 2.0), random.Random(3).random))[1] > 0.4
    assert chosen(Latency([1, 1, 1], observed(None, None, None), random.Random(3).random))[2] > 0.3


def test_latency_of_streams_and_whole_responses_differ() -> None:
    slow, fast = observed(2.0, 0.5)
    slow.responded(False, -1.0)
    fast.responded(False, -9.0)
    strategy = Latency([1, 1], [slow, fast], lambda: 0.9)
    assert (strategy.first(True), strategy.first(False)) == (1, 0)


def test_latency_moves_a_session_from_a_slow_route_and_explores() -> None:
    loads = observed(0.5, 0.9, 1.1)
    moved = Latency([1, 1, 1], loads, lambda: 0.9)
    assert [moved.should_leave(index, True) for index in range(3)] == [False, False, True]
    assert not Latency([1, 1, 1], loads, lambda: EXPLORED_SHARE / 2).should_leave(2, True)


def test_latency_returns_to_a_recovered_route() -> None:
    """A route that was ten times as slow gets its share again after the calls that explore it."""
    slow, fast = observed(5.0, 0.5)
    drawn = random.Random(5)
    strategy = Latency([1, 1], [slow, fast], drawn.random)
    explored = calls = 0
    while strategy._seconds(0, True) > 1.25 * 0.5:
        calls += 1
        assert calls < 5000
        if strategy.first(True) == 0:
            slow.responded(True, -0.5)
            explored += 1
    assert explored < 30
    assert chosen(strategy)[0] == pytest.approx(0.5, abs=0.05)
