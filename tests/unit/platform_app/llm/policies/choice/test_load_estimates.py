"""The numbers of a route's estimate."""

import math

import pytest

from platform_app.llm.policies.choice.route_load import MAX_SECONDS, Observed, RouteLoad
from platform_app.llm.requests import ModelCall
from platform_app.llm.responses import ModelResponse
from tests.support.fakes.upstreams import RESPONSE, ScriptedUpstream


class Clock:
    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_new_observation_has_a_fifth_of_the_weight() -> None:
    load = RouteLoad(Clock())
    load.responded(True, -1.0)
    load.responded(True, -2.0)
    assert load.first_content_seconds(True) == pytest.approx(1.2)
    assert load.first_content_seconds(False) is None


def test_observation_after_a_minute_has_most_of_the_weight() -> None:
    clock = Clock(100.0)
    load = RouteLoad(clock)
    load.responded(False, 99.0)
    clock.now = 160.0
    load.responded(False, 158.0)
    assert load.first_content_seconds(False) == pytest.approx(1 + (1 - math.exp(-1)))
    clock.now = 220.0
    load.responded(False, 220.0)
    assert load.first_content_seconds(False) == pytest.approx((2 - math.exp(-1)) * math.exp(-1))


def test_clock_that_goes_back_keeps_the_usual_weight() -> None:
    clock = Clock(100.0)
    load = RouteLoad(clock)
    load.responded(True, 99.0)
    clock.now = 40.0
    load.responded(True, 38.0)
    assert load.first_content_seconds(True) == pytest.approx(1.2)


@pytest.mark.parametrize(("began", "seconds"), [(0.0, 0.8), (-2.0, 0.8), (-10.5, 2.5)])
def test_failure_counts_four_times_the_estimate_or_its_time(began: float, seconds: float) -> None:
    load = RouteLoad(Clock())
    load.responded(True, -0.5)
    load.failed(True, began)
    assert load.first_content_seconds(True) == pytest.approx(seconds)


@pytest.mark.parametrize(("began", "seconds"), [(0.0, 1.0), (-3.0, 3.0)])
def test_first_failure_counts_a_second_or_its_time(began: float, seconds: float) -> None:
    load = RouteLoad(Clock())
    load.failed(False, began)
    assert load.first_content_seconds(False) == pytest.approx(seconds)


def test_estimate_stops_at_its_maximum() -> None:
    load = RouteLoad(Clock())
    for _ in range(2):
        load.responded(True, -2 * MAX_SECONDS)
        assert load.first_content_seconds(True) == MAX_SECONDS == 600.0


async def test_observed_call_counts_from_its_begin() -> None:
    clock = Clock(7.0)
    load = RouteLoad(clock)

    def respond() -> ModelResponse:
        assert load.in_flight == 1
        clock.now = 9.0
        return RESPONSE

    await Observed(ScriptedUpstream(respond), load).send(ModelCall({}, 60.0))
    assert (load.first_content_seconds(False), load.in_flight) == (2.0, 0)
