"""The breaker of a real route, with the clock under the test's control."""

import asyncio
import functools

import pytest

from apps.provider_simulator.server import ProviderSimulator
from platform_app.errors import (
    PlatformError,
    ProviderError,
    ProviderUnavailable,
)
from platform_app.llm.errors import BreakerOpen
from platform_app.llm.policies import state as shared_state
from platform_app.llm.policies.breaker import BreakerState
from platform_app.llm.responses import ModelResponse
from tests.support.fakes.core import FakeClock
from tests.support.gateway.http import until
from tests.support.providers.policy_chains import NO_RETRY, MakeChains, drain, to

BREAKER = {"failure_ratio": 0.5, "minimum_calls": 5, "window_seconds": 60, "open_seconds": 0.3, "probes": 2}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The clock of the breakers in this test."""
    fake = FakeClock()
    monkeypatch.setattr(shared_state, "BreakerState", functools.partial(BreakerState, clock=fake))
    return fake


async def test_breaker_opens_and_closes_at_configured_counts(
    chains: MakeChains, simulator: ProviderSimulator, clock: FakeClock
) -> None:
    made = chains(to("sim-flaky-6"), breaker=BREAKER, retry=NO_RETRY)
    for _ in range(5):
        with pytest.raises(ProviderError):
            await made.send()
    for _ in range(10):
        with pytest.raises(BreakerOpen) as caught:
            await made.send()
        assert 0 < (caught.value.retry_after or 0) <= 0.3
    assert simulator.count("sim-flaky-6") == 5
    clock.advance(0.3)
    with pytest.raises(ProviderError):  # the probe gets the sixth failure, and the breaker is open again
        await made.send()
    with pytest.raises(BreakerOpen):
        await made.send()
    assert simulator.count("sim-flaky-6") == 6
    clock.advance(0.3)
    for _ in range(2):
        assert isinstance(await made.send(), ModelResponse)
    responses = await asyncio.gather(*(made.send() for _ in range(10)))  # closed: every call is admitted
    assert len(responses) == 10
    assert simulator.count("sim-flaky-6") == 18


async def test_half_open_breaker_admits_only_probes(
    chains: MakeChains, simulator: ProviderSimulator, clock: FakeClock
) -> None:
    made = chains(to("sim-drop"), breaker=BREAKER, retry=NO_RETRY)
    for _ in range(5):
        with pytest.raises(ProviderUnavailable):
            await made.send()
    clock.advance(0.3)
    results = await asyncio.gather(*(made.send() for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(result, BreakerOpen) for result in results) == 8
    assert simulator.count("sim-drop") == 7


@pytest.mark.usefixtures("clock")
async def test_failing_streams_open_breaker(chains: MakeChains, simulator: ProviderSimulator) -> None:
    made = chains(to("sim-stream-drop"), breaker=BREAKER)
    for _ in range(5):
        with pytest.raises(PlatformError):
            await drain(await made.send(stream=True))
    with pytest.raises(BreakerOpen):
        await made.send(stream=True)
    assert simulator.count("sim-stream-drop") == 5


@pytest.mark.usefixtures("clock")
async def test_disconnects_do_not_open_breaker(chains: MakeChains, simulator: ProviderSimulator) -> None:
    made = chains(to("sim-hang"), breaker=BREAKER)
    tasks = [asyncio.create_task(made.send()) for _ in range(10)]
    await until(lambda: simulator.count("sim-hang") == 10)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    streaming = asyncio.create_task(made.send())
    await until(lambda: simulator.count("sim-hang") == 11 or streaming.done())
    assert not streaming.done()
    streaming.cancel()
    await asyncio.wait([streaming])
