"""Retries around real routes over real sockets: what the simulator records agrees with the failure table."""

import time

import pytest

from apps.provider_simulator.server import ProviderSimulator
from platform_app.errors import (
    ProviderRateLimited,
    ProviderTimeout,
)
from platform_app.llm.policies.failure_table import failure_policy_of
from tests.support.providers.faults import EXPECTED, Expected
from tests.support.providers.policy_chains import QUICK, SHORT, MakeChains, drain, to
from tests.support.timing.responsive_time import responsive_time


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("fault", sorted(EXPECTED))
async def test_simulator_fault_is_retried_by_failure_table(
    fault: str, stream: bool, chains: MakeChains, simulator: ProviderSimulator
) -> None:
    expected: Expected = EXPECTED[fault]
    kind = expected.stream if stream else expected.json
    model = SHORT.get(fault, expected.model)
    made = chains(to(model), idle_timeout_seconds=0.5 if "hang" in fault else 30)
    call = made.call(stream=stream)
    if kind is None:
        await drain(await made.upstream.send(call))
        attempts = 1
    elif stream and expected.after_deltas:
        response = await made.upstream.send(call)
        with pytest.raises(kind):
            await drain(response)
        attempts = 1
    else:
        with pytest.raises(kind) as caught:
            await made.upstream.send(call)
        assert type(caught.value) is kind
        attempts = 2 if failure_policy_of(caught.value).retry else 1
    assert simulator.count(model) == attempts
    assert call.attempt_log.attempts == attempts


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_temporary_fault_is_hidden_by_retry(
    chains: MakeChains, simulator: ProviderSimulator, stream: bool
) -> None:
    made = chains(to("sim-flaky-2"), retry={**QUICK, "max_attempts": 3})
    await drain(await made.send(stream=stream))
    assert simulator.count("sim-flaky-2") == 3


async def test_retry_waits_for_retry_after(chains: MakeChains, simulator: ProviderSimulator) -> None:
    made = chains(to("sim-rate-limited-0.3"))
    with pytest.raises(ProviderRateLimited):
        await made.send()
    first, second = simulator.requests("sim-rate-limited-0.3")
    assert second.started - first.started >= 0.29


async def test_retry_after_above_cap_is_not_awaited(chains: MakeChains, simulator: ProviderSimulator) -> None:
    async with responsive_time() as spent:
        with pytest.raises(ProviderRateLimited) as caught:
            await chains(to("sim-rate-limited-30")).send()
    assert caught.value.retry_after == 30  # the caller gets the time to wait
    assert simulator.count("sim-rate-limited-30") == 1
    assert spent.seconds < 15


async def test_retry_wait_never_passes_deadline(chains: MakeChains, simulator: ProviderSimulator) -> None:
    long_cap = {**QUICK, "retry_after_cap_seconds": 600}
    async with responsive_time() as spent:
        with pytest.raises(ProviderRateLimited):
            await chains(to("sim-rate-limited-50"), retry=long_cap).send(seconds=40)
    assert simulator.count("sim-rate-limited-50") == 1
    assert spent.seconds < 15


async def test_hanging_provider_is_cancelled_at_deadline(chains: MakeChains, simulator: ProviderSimulator) -> None:
    made = chains(to("sim-hang"), idle_timeout_seconds=30)
    began = time.monotonic()
    async with responsive_time() as spent:
        with pytest.raises(ProviderTimeout):
            await made.send(seconds=0.4)
        await simulator.wait_for_outcome("sim-hang", "client_closed")
    assert time.monotonic() - began >= 0.35
    assert spent.seconds < 15  # the idle timeout is 30 s
