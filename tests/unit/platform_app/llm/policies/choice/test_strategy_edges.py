"""The exact limits of each strategy."""

import pytest

from platform_app.llm.policies.choice.route_load import RouteLoad
from platform_app.llm.policies.choice.strategies import EXPLORED_SHARE, Latency, LeastBusy, Weighted


def observed(*seconds: float | None) -> list[RouteLoad]:
    """Return loads whose streams took this long until their first content; None: not observed."""
    loads = [RouteLoad(clock=lambda: 0.0) for _ in seconds]
    for load, each in zip(loads, seconds, strict=True):
        if each is not None:
            load.responded(True, -each)
    return loads


def busy(*calls: int) -> list[RouteLoad]:
    loads = observed(*(None for _ in calls))
    for load, count in zip(loads, calls, strict=True):
        load.in_flight = count
    return loads


@pytest.mark.parametrize(("draw", "route"), [(0.0, 0), (0.249, 0), (0.25, 1), (0.749, 1), (0.75, 2), (0.999, 2)])
def test_weighted_draw_chooses_the_route_of_its_interval(draw: float, route: int) -> None:
    assert Weighted([1, 2, 1], lambda: draw).first(True) == route
    assert not Weighted([1, 2, 1], lambda: draw).should_leave(route, True)


@pytest.mark.parametrize(("draw", "route"), [(0.0, 0), (0.749, 0), (0.75, 2), (0.999, 2)])
def test_least_busy_draw_skips_busier_routes(draw: float, route: int) -> None:
    assert LeastBusy([3, 9, 1], busy(3, 18, 1), lambda: draw).first(True) == route


@pytest.mark.parametrize(
    ("weights", "calls", "leaves"),
    [
        ([1, 1, 1], (9, 1, 1), True),  # 1.25 x its share of the 12 calls, and 4 more: 9
        ([1, 1, 1], (9, 2, 1), False),
        ([1, 1, 1], (8, 1, 0), False),
        ([2, 1, 1], (9, 1, 1), False),
        ([1, 2, 1], (8, 1, 1), True),
        ([1, 1, 1], (3, 0, 0), False),
    ],
)
def test_session_leaves_a_busy_route_at_the_limit(weights: list[int], calls: tuple[int, ...], leaves: bool) -> None:
    assert LeastBusy(weights, busy(*calls), lambda: 0.0).should_leave(0, True) is leaves


@pytest.mark.parametrize(("second", "route"), [(0.5, 1), (0.51, 0)])
def test_latency_draws_among_routes_within_a_quarter(second: float, route: int) -> None:
    """The first draw decides whether the call explores."""
    draws = iter([EXPLORED_SHARE, 0.99])
    assert Latency([1, 1], observed(0.4, second), lambda: next(draws)).first(True) == route


def test_latency_explores_slow_routes_with_a_low_draw() -> None:
    draws = iter([EXPLORED_SHARE - 0.001, 0.99])
    assert Latency([1, 1], observed(0.4, 9.0), lambda: next(draws)).first(True) == 1


def test_session_leaves_a_route_above_twice_the_best() -> None:
    strategy = Latency([1, 1, 1, 1], observed(0.5, 1.0, 1.01, None), lambda: EXPLORED_SHARE)
    assert [strategy.should_leave(index, True) for index in range(4)] == [False, False, True, False]
    explores = Latency([1, 1, 1], observed(0.5, 1.0, 1.01), lambda: EXPLORED_SHARE - 0.001)
    assert not explores.should_leave(2, True)


def test_explored_share_is_five_percent() -> None:
    assert EXPLORED_SHARE == 0.05
