"""Fallback between real routes over real sockets."""

import asyncio
from dataclasses import replace

import pytest

from apps.provider_simulator.server import ProviderSimulator
from platform_app.errors import (
    PlatformError,
    ProviderRateLimited,
)
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.responses import ModelResponse
from tests.support.providers.policy_chains import MakeChains, drain, to
from tests.support.timing.responsive_time import responsive_time


@pytest.mark.parametrize(
    "down", ["sim-server-error", "sim-drop", "sim-quota", "sim-unauthorized", "sim-rate-limited-1", "sim-hang"]
)
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_second_route_serves_while_first_is_down(down: str, stream: bool, chains: MakeChains) -> None:
    made = chains(to(down), to("sim-ok", "two"), idle_timeout_seconds=0.5 if down == "sim-hang" else 30)
    call = made.call(stream=stream)
    response = await made.upstream.send(call)
    await drain(response)
    assert isinstance(response, ChunkStream if stream else ModelResponse)
    assert call.attempt_log.route is not None
    assert (call.attempt_log.route.provider, call.attempt_log.route.upstream_model) == ("two", "sim-ok")


async def test_unreachable_provider_falls_back(simulator: ProviderSimulator, chains: MakeChains) -> None:
    """However long the backoff is, no wait is longer than the bound while another route can respond."""
    made = chains(
        to("sim-ok"),
        to("sim-ok@two", "two"),
        providers={"one": {"base_url": simulator.refused_url}},
        retry={"max_attempts": 2, "base_seconds": 600, "max_seconds": 600, "retry_after_max_seconds": 0.1},
    )
    call = made.call()
    async with responsive_time() as spent:
        assert isinstance(await made.upstream.send(call), ModelResponse)
    assert simulator.count("sim-ok@two") == 1
    assert call.attempt_log.attempts == 3
    assert spent.seconds < 60  # the backoff alone would be up to 600 s


async def test_invalid_request_does_not_fall_back(chains: MakeChains, simulator: ProviderSimulator) -> None:
    with pytest.raises(PlatformError) as caught:
        await chains(to("sim-content-filter"), to("sim-ok", "two")).send()
    assert caught.value.code == "content_filtered"
    assert simulator.count("sim-ok") == 0


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_context_length_falls_back_to_other_model(
    chains: MakeChains, simulator: ProviderSimulator, stream: bool
) -> None:
    """The same model at another provider would refuse the request too, so it is skipped."""
    made = chains(to("sim-context-length"), to("sim-context-length", "two"), to("sim-ok", "three"))
    call = made.call(stream=stream)
    await drain(await made.upstream.send(call))
    assert call.attempt_log.attempts == 2
    assert simulator.count("sim-context-length") == 1


async def test_context_length_on_all_models_is_raised(chains: MakeChains) -> None:
    with pytest.raises(PlatformError) as caught:
        await chains(to("sim-context-length@a"), to("sim-context-length@b", "two")).send()
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("model", ["sim-hang", "sim-slow-first-token-20000"])
async def test_stream_without_content_in_time_falls_back(
    model: str, chains: MakeChains, simulator: ProviderSimulator
) -> None:
    """The provider sends nothing at all, or only a head; in both cases it is not retried."""
    made = chains(to(model, first_token_seconds=0.3), to("sim-ok", "two"))
    call = made.call(stream=True)
    async with responsive_time() as spent:
        await drain(await made.upstream.send(call))
    assert call.attempt_log.route is not None
    assert (call.attempt_log.route.provider, call.attempt_log.attempts) == ("two", 2)
    assert simulator.count(model) == 1
    await simulator.wait_for_outcome(model, "client_closed")
    assert spent.seconds < 10


async def test_first_token_timeout_ignores_whole_responses(chains: MakeChains, simulator: ProviderSimulator) -> None:
    made = chains(to("sim-delay-600", first_token_seconds=0.1), to("sim-ok", "two"))
    assert isinstance(await made.send(), ModelResponse)
    assert simulator.count("sim-ok") == 0


async def test_all_routes_down_raises_shortest_retry_after(chains: MakeChains) -> None:
    made = chains(to("sim-server-error"), to("sim-rate-limited-7", "two"), to("sim-quota", "three"))
    with pytest.raises(ProviderRateLimited) as caught:
        await made.send()
    assert caught.value.retry_after == 7


async def test_weights_hold_within_5_percent_of_2000_calls(chains: MakeChains, simulator: ProviderSimulator) -> None:
    made = chains(to("sim-ok@a", weight=70), to("sim-ok@b", "two", weight=20), to("sim-ok@c", "three", weight=10))

    async def caller(number: int) -> None:
        for turn in range(100):  # each call is a session: calls of one session go to the same route
            await made.upstream.send(replace(made.call(), session=f"{number}-{turn}"))

    await asyncio.gather(*(caller(number) for number in range(20)))
    shares = [simulator.count(f"sim-ok@{name}") / 2000 for name in "abc"]
    assert shares == [pytest.approx(share, abs=0.05) for share in (0.7, 0.2, 0.1)]
