"""ChatService, built from fakes: the order of its steps, and what each outcome leaves behind."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from platform_app.auth.caller import Caller
from platform_app.chat import ChatResult, ChatService
from platform_app.config import LimitRule
from platform_app.errors import (
    LimiterUnavailable,
    ModelNotAllowed,
    ModelNotFound,
    ProviderError,
    ProviderNotConfigured,
    ProviderTimeout,
    RateLimited,
)
from platform_app.ledger.events.event import decode
from platform_app.ledger.events.usage_record import MAX_TOKENS, UsageRecord
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.models.registry import ModelRegistry, ServedModel
from platform_app.llm.models.route import Route
from platform_app.llm.requests import ModelRequest, Operation
from platform_app.llm.responses import ChatChunk, ModelResponse
from platform_app.llm.usage.pricing import FlatPrice
from platform_app.rate_limit.matching import RuleBook
from platform_app.rate_limit.service import RateLimitService
from tests.support.fakes.core import Count, FakeLedger, FakeLimiter, FakeUpstream, context

ROUTE = Route("big", "sim", "up-big", price=FlatPrice(1.0, 4.0, 0.5, 1.0, 1.0))
RULES = [
    LimitRule(name="key-rpm", scope="key", limit=60, window_seconds=60),
    LimitRule(name="model-rpm", scope="model", limit=60, window_seconds=60),
]
CALLER = Caller("k" * 12, "batch", "team-a", "test", frozenset({"platform:chat"}))
BODY = {"messages": [{"role": "user", "content": "hi"}], "temperature": 0.5}
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def chunk(text: str = "", **body: object) -> ChatChunk:
    return ChatChunk(b"raw", {"choices": [{"delta": {"content": text}}], **body})


class World:
    def __init__(self) -> None:
        self.steps: list[str] = []
        self.limiter = FakeLimiter(self.steps)
        self.upstream = FakeUpstream(ROUTE, self.steps)
        self.ledger = FakeLedger()
        self.context = context()
        small = ServedModel("small", (), FakeUpstream(Route("small", "sim", "up-small"), self.steps))
        models = ModelRegistry({"big": ServedModel("big", (ROUTE,), self.upstream), "small": small}, "small")
        self.chat = ChatService(models, RateLimitService(RuleBook(RULES), self.limiter), self.ledger, 60.0)

    async def send(self, model: str | None = "big", caller: Caller = CALLER, stream: bool = False) -> ChatResult:
        return await self.chat.send(ModelRequest(model, BODY, stream=stream), caller, self.context)

    async def stream(self) -> ChunkStream:
        answer = (await self.send(stream=True)).response
        assert isinstance(answer, ChunkStream)
        return answer

    @property
    def record(self) -> UsageRecord:
        [record] = self.ledger.events
        assert isinstance(record, UsageRecord)
        return record


@pytest.fixture
def world() -> World:
    return World()


def tokens(direction: str) -> Count:
    return Count("platform_provider_tokens_total", provider="sim", model="big", direction=direction)


async def test_limiter_then_upstream(world: World) -> None:
    before = asyncio.get_running_loop().time()
    served = await world.send()
    assert (served.model, served.provider, served.upstream_model) == ("big", "sim", "up-big")
    assert served.response is world.upstream.completion
    assert world.steps == ["limiter", "upstream"]
    [call] = world.upstream.calls
    assert (call.body, call.operation, call.stream) == (BODY, Operation.CHAT, False)
    assert before + 59 < call.deadline < before + 61
    assert (world.context.model, world.context.provider) == ("big", "sim")


async def test_the_answer_says_who_gave_it(world: World) -> None:
    await world.send()
    noted = world.context
    assert (noted.provider, noted.upstream_model, noted.attempts) == ("sim", "up-big", 1)


async def test_one_limiter_call_for_all_rules_the_models_among_them(world: World) -> None:
    await world.send()
    [charges] = world.limiter.asked
    assert [charge.counter for charge in charges] == [
        "fbp:rl:{kkkkkkkkkkkk}:key-rpm:requests:60",
        "fbp:rl:{shared}:model-rpm:requests:60:big",
    ]
    assert world.context.limits is not None


async def test_no_model_is_the_default_model(world: World) -> None:
    assert (await world.send(None)).model == "small"
    assert world.context.model == "small"


async def test_an_unknown_model_spends_nothing(world: World) -> None:
    with pytest.raises(ModelNotFound, match="'gpt-9' does not exist"):
        await world.send("gpt-9")
    assert world.steps == []
    assert world.context.model is None  # what a client typed is no label


async def test_a_forbidden_model_spends_nothing(world: World) -> None:
    caller = Caller("k" * 12, "n", "o", "test", frozenset({"platform:chat"}), frozenset({"small"}))
    with pytest.raises(ModelNotAllowed, match="may not use the model 'big'"):
        await world.send("big", caller)
    assert world.steps == []
    await world.send("small", caller)
    # The default model is no way around it.
    with pytest.raises(ModelNotAllowed):
        await world.send(None, Caller("k" * 12, "n", "o", "test", frozenset(), frozenset({"big"})))


async def test_replay_is_charged_and_calls_no_provider(world: World) -> None:
    await world.chat.admit_replay(ModelRequest("big", BODY), CALLER, world.context)
    assert [[charge.rule.name for charge in asked] for asked in world.limiter.asked] == [["key-rpm", "model-rpm"]]
    assert world.context.model == "big"
    assert world.steps == ["limiter"]
    assert world.ledger.events == []
    world.limiter.deny_seconds = 1
    with pytest.raises(RateLimited):
        await world.chat.admit_replay(ModelRequest("big", BODY), CALLER, world.context)


@pytest.mark.parametrize(("model", "error"), [("gone", ModelNotFound), ("big", ModelNotAllowed)])
async def test_replay_of_a_model_without_access_is_refused(world: World, model: str, error: type[Exception]) -> None:
    caller = replace(CALLER, allowed_models=frozenset({"small"}))
    with pytest.raises(error):
        await world.chat.admit_replay(ModelRequest(model, BODY), caller, world.context)
    assert world.limiter.asked == []


async def test_a_limited_request_asks_no_provider(world: World) -> None:
    world.limiter.deny_seconds = 3.0
    with pytest.raises(RateLimited) as caught:
        await world.send()
    assert caught.value.retry_after == 3
    assert world.steps == ["limiter"]
    assert world.context.limits is not None
    assert world.context.limits.denied_by is not None
    assert world.ledger.events == []


async def test_a_limiter_that_is_closed_lets_nobody_pass(world: World) -> None:
    world.limiter.down = True
    with pytest.raises(LimiterUnavailable):
        await world.send()
    assert world.steps == ["limiter"]


async def test_a_good_answer_is_counted_and_recorded(world: World) -> None:
    usage = {**USAGE, "prompt_tokens_details": {"cached_tokens": 4}}
    world.upstream.completion = ModelResponse(b"", {**world.upstream.completion.body, "usage": usage})
    prompt, completion = tokens("input"), tokens("output")
    await world.send()
    assert (prompt.grown, completion.grown) == (7, 3)
    record = world.record
    assert (record.prompt_tokens, record.completion_tokens, record.cached_tokens) == (7, 3, 4)
    assert record.cost_microusd == 3 * 1 + 4 * 0.5 + 3 * 4
    assert (record.outcome, record.estimated, record.attempts, record.stream) == ("ok", False, 1, False)
    assert (record.key_id, record.owner, record.route) == (CALLER.key_id, "team-a", "/v1/platform/chat")
    assert (record.provider, record.model, record.upstream_model) == ("sim", "big", "up-big")
    assert record.first_token_ms is None


async def test_an_answer_that_counts_nothing_is_estimated(world: World) -> None:
    text = "x" * 400
    world.upstream.completion = ModelResponse(b"", {"choices": [{"message": {"role": "assistant", "content": text}}]})
    await world.send()
    record = world.record
    assert record.estimated
    assert record.prompt_tokens > 0
    assert record.completion_tokens >= 100


@pytest.mark.parametrize(
    ("error", "guessed"),
    [
        (ProviderError("no"), False),
        (ProviderTimeout("slow"), True),  # no client gets what it generated, but it is charged
    ],
)
async def test_a_failure_is_recorded_by_its_code(
    world: World, error: ProviderError | ProviderTimeout, guessed: bool
) -> None:
    world.upstream.error = error
    for stream in (False, True):
        world.ledger.events.clear()
        with pytest.raises(type(error)):
            await world.send(stream=stream)
        assert (world.record.outcome, world.record.estimated) == (error.code, guessed)
        assert (world.record.prompt_tokens > 0) is guessed
        assert world.record.completion_tokens == 0
    assert world.context.provider == "sim"


async def test_where_no_provider_was_called_there_is_nothing_to_record(world: World) -> None:
    world.upstream.sends = False
    world.upstream.error = ProviderNotConfigured("no credential")
    with pytest.raises(ProviderNotConfigured):
        await world.send()
    assert world.ledger.events == []
    assert world.context.attempts == 0


async def test_a_client_that_leaves_before_the_answer(world: World) -> None:
    world.upstream.wait = asyncio.Event()
    task = asyncio.create_task(world.send())
    await world.upstream.waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (world.record.outcome, world.record.estimated) == ("client_closed", True)
    assert world.record.prompt_tokens > 0


async def test_a_stream_passes_chunks_on_and_is_recorded_once_it_ended(world: World) -> None:
    world.upstream.chunks = [chunk("a"), chunk("b"), chunk(usage=USAGE)]
    prompt, completion = tokens("input"), tokens("output")
    chunks = await world.stream()
    assert world.ledger.events == []
    assert [each async for each in chunks] == world.upstream.chunks
    record = world.record
    assert (record.outcome, record.stream, record.estimated) == ("ok", True, False)
    assert (record.prompt_tokens, record.completion_tokens) == (7, 3)
    assert record.first_token_ms is not None
    assert record.first_token_ms <= record.duration_ms
    assert (prompt.grown, completion.grown) == (7, 3)
    await chunks.aclose()
    assert world.upstream.streams_closed == 1
    assert len(world.ledger.events) == 1


async def test_usage_that_comes_with_every_chunk_counts_once(world: World) -> None:
    world.upstream.chunks = [
        chunk("a", usage={"prompt_tokens": 7, "completion_tokens": done, "total_tokens": 7 + done})
        for done in (1, 2, 3)
    ]
    async for _ in await world.stream():
        pass
    assert (world.record.prompt_tokens, world.record.completion_tokens) == (7, 3)


async def test_a_stream_that_its_reader_leaves_is_estimated(world: World) -> None:
    world.upstream.chunks = [chunk("x" * 400), chunk("b")]
    async with aclosing(await world.stream()) as chunks:
        await anext(chunks)
        assert world.upstream.streams_closed == 0
    assert world.upstream.streams_closed == 1
    record = world.record
    assert (record.outcome, record.estimated) == ("client_closed", True)
    assert record.completion_tokens >= 100


async def test_a_stream_whose_reader_is_cancelled_in_a_silence(world: World) -> None:
    world.upstream.chunks = [chunk("a")]
    world.upstream.wait = asyncio.Event()
    chunks = await world.stream()
    await anext(chunks)
    task = asyncio.ensure_future(anext(chunks))
    await world.upstream.waiting.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert world.upstream.streams_closed == 1
    assert world.record.outcome == "client_closed"


async def test_a_stream_that_fails_in_the_middle(world: World) -> None:
    world.upstream.chunks = [chunk("a")]
    world.upstream.error = ProviderTimeout("slow")
    chunks = await world.stream()
    assert await anext(chunks) == world.upstream.chunks[0]
    with pytest.raises(ProviderTimeout):
        await anext(chunks)
    assert (world.record.outcome, world.record.estimated) == ("provider_timeout", True)
    assert world.upstream.streams_closed == 1


async def test_intent_is_written_before_the_call_and_withdrawn(world: World) -> None:
    """It holds what is recorded if the process dies: the most that the call may use, at that provider's price."""
    world.upstream.wait = asyncio.Event()
    task = asyncio.create_task(world.send())
    await world.upstream.waiting.wait()
    [(intent, settlement)] = world.ledger.intents
    assert (world.ledger.open_intents, world.ledger.events) == (1, [])
    assert (intent.outcome, intent.estimated, intent.attempts) == ("interrupted", True, 1)
    assert (intent.provider, intent.upstream_model, intent.owner) == ("sim", "up-big", "team-a")
    assert intent.completion_tokens == 1024, "what an answer is taken to need that says nothing"
    assert intent.cost_microusd == intent.prompt_tokens * 1 + 1024 * 4
    assert not settlement, "no rule reserved anything"
    world.upstream.wait.set()
    await task
    assert world.ledger.open_intents == 0
    assert (world.record.event_id, world.record.occurred_at) == (intent.event_id, intent.occurred_at), "one event"


@pytest.mark.parametrize("error", [ProviderError("no"), ProviderTimeout("late"), RuntimeError("a bug")])
async def test_intent_of_a_failed_call_is_withdrawn(world: World, error: Exception) -> None:
    world.upstream.error = error
    with pytest.raises(type(error)):
        await world.send()
    assert (len(world.ledger.intents), world.ledger.open_intents, len(world.ledger.events)) == (1, 0, 1)


async def test_intent_of_a_stream_is_open_until_its_end(world: World) -> None:
    world.upstream.chunks = [chunk("a"), chunk("b")]
    async with aclosing(await world.stream()) as stream:
        assert world.ledger.open_intents == 1
        assert [each async for each in stream]
    assert world.ledger.open_intents == 0
    assert world.record.event_id == world.ledger.intents[0][0].event_id


async def test_retried_call_keeps_its_intent(world: World) -> None:
    world.upstream.sends = 3
    await world.send()
    intents = [record for record, _ in world.ledger.intents]
    assert [each.attempts for each in intents] == [1, 2, 3]
    assert len({(each.event_id, each.occurred_at) for each in intents}) == 1
    assert world.ledger.open_intents == 0


async def test_nothing_is_intended_where_no_provider_is_called(world: World) -> None:
    world.upstream.sends = False
    world.upstream.error = ProviderNotConfigured("no credential")
    with pytest.raises(ProviderNotConfigured):
        await world.send()
    assert (world.ledger.intents, world.ledger.open_intents) == ([], 0)


@pytest.mark.parametrize("wanted", [10**12, 10**40])
async def test_absurd_estimates_fit_into_a_record(world: World, wanted: int) -> None:
    request = ModelRequest("big", {**BODY, "max_tokens": wanted})
    await world.chat.send(request, CALLER, world.context)
    [(intent, _)] = world.ledger.intents
    assert intent.completion_tokens == MAX_TOKENS
    assert decode(intent.line()) == intent
