"""The concurrency limit of a real provider, and what a disconnect frees."""

import asyncio

import pytest

from apps.provider_simulator.server import ProviderSimulator
from platform_app.errors import (
    Overloaded,
)
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.responses import ModelResponse
from tests.support.gateway.http import until
from tests.support.providers.policy_chains import QUICK, MakeChains, most_at_once, to
from tests.support.timing.responsive_time import responsive_time

CAPPED = {"one": {"max_concurrent": 2, "max_waiting": 4}}


async def test_concurrency_limit_and_queue_are_bounded(chains: MakeChains, simulator: ProviderSimulator) -> None:
    made = chains(to("sim-delay-100"), providers=CAPPED)
    results = await asyncio.gather(*(made.send() for _ in range(9)), return_exceptions=True)
    assert sum(isinstance(result, Overloaded) for result in results) == 3
    assert sum(isinstance(result, ModelResponse) for result in results) == 6
    assert most_at_once(simulator.requests("sim-delay-100")) == 2
    assert made.in_use("one") == (0, 0)


@pytest.mark.parametrize("moment", ["before the first token", "in the stream", "in a retry wait", "in the queue"])
async def test_disconnect_frees_limit_and_connection(
    moment: str, chains: MakeChains, simulator: ProviderSimulator
) -> None:
    model = {"before the first token": "sim-slow-first-token-30000", "in a retry wait": "sim-rate-limited-30"}.get(
        moment, "sim-slow-stream-1000"
    )
    made = chains(to(model), providers={"one": {"max_concurrent": 1}}, retry={**QUICK, "retry_after_cap_seconds": 600})
    queued_behind = await made.send(stream=True) if moment == "in the queue" else None
    got_chunk = asyncio.Event()

    async def read() -> None:
        response = await made.send(stream=True)
        assert isinstance(response, ChunkStream)
        try:
            async for _ in response:
                got_chunk.set()
        finally:
            await response.aclose()

    task = asyncio.create_task(read())
    await until(lambda: moment == "in the queue" or simulator.count(model) == 1)
    if moment == "in the stream":
        await got_chunk.wait()
    if moment == "in a retry wait":
        await simulator.wait_for_outcome(model, "completed")
        await until(lambda: made.in_use("one") == (0, 0))
    if moment == "in the queue":
        await until(lambda: made.in_use("one") == (1, 1))
    async with responsive_time() as spent:
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    assert spent.seconds < 10
    assert made.in_use("one") == ((1, 0) if queued_behind else (0, 0))
    if moment in ("before the first token", "in the stream"):
        async with responsive_time() as spent:
            await simulator.wait_for_outcome(model, "client_closed")
        assert spent.seconds < 10
    if isinstance(queued_behind, ChunkStream):
        await queued_behind.aclose()
        assert made.in_use("one") == (0, 0)
    assert simulator.count(model) == 1
