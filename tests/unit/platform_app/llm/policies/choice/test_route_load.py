import asyncio
import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.errors import InvalidRequest, PlatformError, ProviderError
from platform_app.llm.policies.choice.route_load import MAX_SECONDS, Observed, RouteLoad
from platform_app.llm.requests import ModelCall
from tests.support.fakes.upstreams import RESPONSE, ScriptedUpstream, Step, a_call, a_stream


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def stream_call() -> ModelCall:
    return ModelCall({}, asyncio.get_running_loop().time() + 60, stream=True)


async def test_stream_is_in_flight_until_its_end() -> None:
    load = RouteLoad()
    stream = await Observed(ScriptedUpstream(a_stream()), load).send(stream_call())
    assert load.in_flight == 1
    assert load.first_content_seconds(True) is not None
    assert [chunk async for chunk in stream]  # type: ignore[union-attr]  # a stream was scripted
    assert load.in_flight == 0


async def test_abandoned_stream_leaves_flight_count() -> None:
    load = RouteLoad()
    stream = await Observed(ScriptedUpstream(a_stream()), load).send(stream_call())
    await stream.aclose()  # type: ignore[union-attr]  # a stream was scripted
    assert load.in_flight == 0


@pytest.mark.parametrize(("step", "seconds"), [(RESPONSE, 0.0), (ProviderError("x"), 1.0), (InvalidRequest("x"), None)])
async def test_only_failures_of_the_route_count(step: Step, seconds: float | None) -> None:
    load = RouteLoad(Clock())
    with contextlib.suppress(PlatformError):
        await Observed(ScriptedUpstream(step), load).send(a_call())
    assert load.in_flight == 0
    assert load.first_content_seconds(False) == seconds


async def test_cancelled_call_leaves_flight_count() -> None:
    load = RouteLoad()
    call = asyncio.create_task(Observed(ScriptedUpstream(3600.0, RESPONSE), load).send(a_call()))
    await asyncio.sleep(0)
    assert load.in_flight == 1
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert (load.in_flight, load.first_content_seconds(False)) == (0, None)


def test_two_failures_more_than_double_the_estimate() -> None:
    load = RouteLoad(Clock())
    load.responded(True, -0.5)
    load.failed(True, 0.0)
    assert 0.5 < (load.first_content_seconds(True) or 0) < 1.0
    load.failed(True, 0.0)
    assert (load.first_content_seconds(True) or 0) > 1.0


def test_old_estimate_is_forgotten() -> None:
    clock = Clock()
    load = RouteLoad(clock)
    load.responded(True, -10.0)
    clock.now = 600.0
    load.responded(True, 599.0)
    assert load.first_content_seconds(True) == pytest.approx(1.0, abs=0.01)


@given(st.lists(st.tuples(st.sampled_from(["responded", "failed"]), st.floats(0, 1e9), st.floats(0, 1e6))))
def test_estimate_stays_finite_and_bounded(events: list[tuple[str, float, float]]) -> None:
    clock = Clock()
    load = RouteLoad(clock)
    for name, seconds, pause in events:
        clock.now += pause
        getattr(load, name)(True, clock.now - seconds)
        estimate = load.first_content_seconds(True)
        assert estimate is not None
        assert math.isfinite(estimate)
        assert -1e-6 <= estimate <= MAX_SECONDS
