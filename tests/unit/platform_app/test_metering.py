"""The record and the charge of a call, for every form of usage that a provider may send (issue 11, kinds 1 and 2)."""

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from platform_app import metering
from platform_app.errors import ProviderTimeout
from platform_app.ledger.events.event import decode
from platform_app.ledger.events.usage_record import MAX_COST_MICROUSD
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.models.route import Route
from platform_app.llm.responses import ChatChunk, ModelResponse
from platform_app.llm.usage.pricing import FlatPrice
from platform_app.rate_limit.limiter import Settlement
from tests.support.fakes.chat_service import ROUTE, USAGE, World, chunk
from tests.support.fakes.core import Count

TEXT = "x" * 350


class Settled:
    """An admission that stores the arguments of its settlements."""

    def __init__(self) -> None:
        self.with_: list[tuple[int | None, int | None]] = []

    def settle(
        self, tokens: int | None, cost_microusd: int | None, assumed_costs: Mapping[str, int] | None = None
    ) -> None:
        self.with_.append((tokens, cost_microusd))

    def release(self) -> None:
        self.settle(0, 0)

    def settlement(self) -> Settlement:
        return ()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def admission(world: World) -> Settled:
    admission = Settled()
    world.limiter.admission = admission
    return admission


def completion(usage: object, text: str = TEXT) -> ModelResponse:
    return ModelResponse(b"", {"choices": [{"message": {"role": "assistant", "content": text}}], "usage": usage})


@pytest.mark.parametrize("count", [0, 10**19, 2**63, -1, 0.5, "9", True, None])
async def test_counts_that_cannot_be_are_estimated(world: World, admission: Settled, count: object) -> None:
    """Ledger and limiter get the same estimate, and the client gets no usage."""
    world.upstream.completion = completion({"prompt_tokens": count, "completion_tokens": count, "total_tokens": count})
    refused = Count("platform_provider_usage_refused_total", provider="sim", model="big")
    served = await world.send()
    assert served.usage is None
    record = world.record
    assert (record.estimated, record.completion_tokens) == (True, 100)
    assert record.cost_microusd == record.prompt_tokens + 400
    assert admission.with_ == [(record.prompt_tokens + 100, record.cost_microusd)]
    assert refused.grown == 1
    assert decode(record.line()) == record


async def test_whole_floats_are_counts(world: World, admission: Settled) -> None:
    world.upstream.completion = completion({"prompt_tokens": 7.0, "completion_tokens": 90.0})
    served = await world.send()
    assert served.usage is not None
    assert (served.usage.prompt_tokens, served.usage.completion_tokens, served.usage.total_tokens) == (7, 90, 97)
    assert (world.record.estimated, world.record.cost_microusd) == (False, 7 + 360)
    assert admission.with_ == [(97, 367)]


async def test_cost_has_one_bound_for_ledger_and_limiter(world: World, admission: Settled) -> None:
    dear = FlatPrice(10**9, 10**9, 0.5, 1.0, 1.0)
    world.upstream.route = Route("big", "sim", "up-big", price=dear)
    world.upstream.completion = completion({"prompt_tokens": 9_000, "completion_tokens": 300})
    await world.send()
    assert world.record.cost_microusd == MAX_COST_MICROUSD
    assert admission.with_ == [(9_300, MAX_COST_MICROUSD)]


async def test_refused_counts_are_logged_without_text(world: World) -> None:
    metering._refused_logged.clear()
    world.upstream.completion = completion({"prompt_tokens": 10**19, "note": "secret prompt", "completion_tokens": 1})
    with capture_logs() as logs:
        await world.send()
        await world.send()
    refusals = [line for line in logs if line["event"] == "provider_usage_refused"]
    assert [(line["provider"], line["model"]) for line in refusals] == [("sim", "big")]
    assert orjson.loads(refusals[0]["counts"]) == {"prompt_tokens": str(10**19), "completion_tokens": 1}


async def test_missing_usage_is_not_counted_as_refused(world: World) -> None:
    refused = Count("platform_provider_usage_refused_total", provider="sim", model="big")
    world.upstream.completion = completion(None)
    await world.send()
    assert (world.record.estimated, refused.grown) == (True, 0)


async def streamed(world: World, *chunks: ChatChunk) -> ChunkStream:
    world.upstream.chunks = list(chunks)
    stream = await world.stream()
    async for _ in stream:
        pass
    return stream


def counting(prompt: object, made: object, **chunk_body: Any) -> ChatChunk:
    return ChatChunk(b"", {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": made}, **chunk_body})


async def test_last_usage_without_counts_wipes_nothing(world: World) -> None:
    stream = await streamed(world, chunk(TEXT), counting(7, 90), counting(0, 0))
    assert (world.record.prompt_tokens, world.record.completion_tokens, world.record.estimated) == (7, 90, False)
    assert stream.usage is not None


async def test_usage_sent_twice_counts_once(world: World) -> None:
    await streamed(world, chunk(TEXT), counting(7, 90), counting(7, 90))
    assert (world.record.prompt_tokens, world.record.completion_tokens) == (7, 90)


async def test_usage_in_the_middle_alone_is_not_the_whole(world: World) -> None:
    """The provider did not count what followed."""
    early = chunk("a", usage={"prompt_tokens": 7, "completion_tokens": 1})
    stream = await streamed(world, early, chunk(TEXT))
    assert (world.record.prompt_tokens, world.record.completion_tokens, world.record.estimated) == (7, 101, True)
    assert stream.usage is None


async def test_cut_stream_keeps_the_input_that_was_counted(world: World) -> None:
    """Anthropic counts input in the first event; the output is estimated by what arrived."""
    start = ChatChunk(b"", {"choices": [{"delta": {}}]}, {"input_tokens": 5, "cache_read_input_tokens": 2,
                                                          "output_tokens": 1})  # fmt: skip
    world.upstream.chunks = [start, chunk(TEXT), chunk(TEXT)]
    async with aclosing(await world.stream()) as stream:
        await anext(stream)
        await anext(stream)
    record = world.record
    assert (record.prompt_tokens, record.cached_tokens, record.completion_tokens) == (7, 2, 100)
    assert (record.estimated, record.outcome) == (True, "client_closed")


async def test_stream_that_fails_after_its_last_count_is_counted(world: World) -> None:
    world.upstream.chunks = [chunk(TEXT), counting(7, 90)]
    world.upstream.error = ProviderTimeout("slow")
    stream = await world.stream()
    with pytest.raises(ProviderTimeout):
        [each async for each in stream]
    assert (world.record.prompt_tokens, world.record.completion_tokens, world.record.estimated) == (7, 90, False)


def test_route_has_a_price() -> None:
    """The figures above assume one dollar per million input tokens, and four per million output tokens."""
    assert (ROUTE.price, USAGE["total_tokens"]) == (FlatPrice(1.0, 4.0, 0.5, 1.0, 1.0), 10)
