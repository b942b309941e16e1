"""ChatService, built from fakes: the order of its steps, and what each outcome leaves behind."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from structlog.testing import capture_logs

from platform_app.auth.caller import Caller
from platform_app.chat import ChatService
from platform_app.config import LimitRule, PlatformConfig
from platform_app.errors import (
    LimiterUnavailable,
    ModelNotAllowed,
    ModelNotFound,
    ProviderNotConfigured,
    ProviderTimeout,
    RateLimited,
    SecretStoreUnavailable,
)
from platform_app.llm.catalog import Catalog
from platform_app.llm.types import ChatChunk, ChatCompletion, ChatRequest, UpstreamCall
from platform_app.rate_limit.gate import RateLimitGate
from platform_app.rate_limit.rules import RuleBook
from tests.unit.fakes import Count, FakeAdapter, FakeLimiter, FakeSecrets, context

CONFIG = PlatformConfig.model_validate(
    {
        "providers": {"sim": {"base_url": "http://x/v1", "api_key_secret": "SIM_KEY"}},
        "models": {
            "small": {"routes": [{"provider": "sim", "model": "up-small"}]},
            "big": {"routes": [{"provider": "sim", "model": "up-big"}]},
        },
    }
)
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
        self.secrets = FakeSecrets({"SIM_KEY": "sk-provider"}, self.steps)
        self.adapter = FakeAdapter(self.steps)
        self.context = context()
        self.chat = ChatService(
            Catalog(CONFIG, "small"), RateLimitGate(RuleBook(RULES), self.limiter), self.secrets, {"sim": self.adapter}
        )

    async def complete(self, model: str | None = "big", caller: Caller = CALLER) -> ChatCompletion:
        _, completion = await self.chat.complete(ChatRequest(model, BODY), caller, self.context)
        return completion

    async def stream(self, model: str | None = "big", caller: Caller = CALLER) -> AsyncGenerator[ChatChunk, None]:
        _, chunks = await self.chat.stream(ChatRequest(model, BODY), caller, self.context)
        return chunks


@pytest.fixture
def world() -> World:
    return World()


def outcomes(outcome: str, model: str = "big") -> Count:
    return Count("platform_provider_requests_total", provider="sim", model=model, outcome=outcome)


def tokens(direction: str) -> Count:
    return Count("platform_provider_tokens_total", provider="sim", model="big", direction=direction)


async def test_limiter_then_secret_then_adapter(world: World) -> None:
    completion = await world.complete()
    assert completion is world.adapter.completion
    assert world.steps == ["limiter", "secret", "adapter"]
    assert world.adapter.calls == [(UpstreamCall("up-big", BODY), "sk-provider")]
    assert (world.context.model, world.context.provider) == ("big", "sim")


async def test_one_limiter_call_for_all_rules_the_models_among_them(world: World) -> None:
    await world.complete()
    [charges] = world.limiter.asked
    assert [charge.counter for charge in charges] == [
        "fbp:rl:{kkkkkkkkkkkk}:key-rpm:requests:60",
        "fbp:rl:{shared}:model-rpm:requests:60:big",
    ]
    assert "ratelimit" in world.context.response_headers


async def test_no_model_is_the_default_model(world: World) -> None:
    await world.complete(None)
    assert world.adapter.calls[0][0].model == "up-small"
    assert world.context.model == "small"


@pytest.mark.parametrize("way", ["complete", "stream"])
async def test_an_unknown_model_spends_nothing(world: World, way: str) -> None:
    with pytest.raises(ModelNotFound):
        await getattr(world, way)("gpt-9")
    assert world.steps == []
    assert world.context.model is None  # what a client typed is no label


@pytest.mark.parametrize("way", ["complete", "stream"])
async def test_a_forbidden_model_spends_nothing(world: World, way: str) -> None:
    caller = Caller("k" * 12, "n", "o", "test", frozenset({"platform:chat"}), frozenset({"small"}))
    with pytest.raises(ModelNotAllowed, match="may not use the model 'big'"):
        await getattr(world, way)("big", caller)
    assert world.steps == []
    await world.complete("small", caller)
    # The default model is no way around it.
    with pytest.raises(ModelNotAllowed):
        await world.complete(None, Caller("k" * 12, "n", "o", "test", frozenset(), frozenset({"big"})))


@pytest.mark.parametrize("way", ["complete", "stream"])
async def test_a_limited_request_asks_neither_secret_nor_provider(world: World, way: str) -> None:
    world.limiter.deny_seconds = 3.0
    with pytest.raises(RateLimited) as caught:
        await getattr(world, way)()
    assert caught.value.retry_after == 3
    assert world.steps == ["limiter"]
    assert world.context.response_headers["x-ratelimit-remaining-requests"] == "0"


async def test_a_limiter_that_is_closed_lets_nobody_pass(world: World) -> None:
    world.limiter.down = True
    with pytest.raises(LimiterUnavailable):
        await world.complete()
    assert world.steps == ["limiter"]


@pytest.mark.parametrize("error", [None, SecretStoreUnavailable("vault-17.internal does not answer")])
@pytest.mark.parametrize("way", ["complete", "stream"])
async def test_a_missing_secret_is_the_operators_to_mend(world: World, way: str, error: Exception | None) -> None:
    world.secrets.values.clear()
    world.secrets.error = error
    with capture_logs() as lines, pytest.raises(ProviderNotConfigured) as caught:
        await getattr(world, way)()
    assert "SIM_KEY" not in caught.value.message
    assert "vault" not in caught.value.message
    assert caught.value.__cause__ is None
    assert world.steps == ["limiter", "secret"]
    [line] = lines
    assert (line["event"], line["provider"], line["secret"]) == ("provider_secret_unavailable", "sim", "SIM_KEY")


async def test_a_good_answer_is_counted_with_its_tokens(world: World) -> None:
    world.adapter.completion = ChatCompletion(b"", {**world.adapter.completion.body, "usage": USAGE})
    ok, prompt, completion = outcomes("ok"), tokens("input"), tokens("output")
    await world.complete()
    assert (ok.grown, prompt.grown, completion.grown) == (1, 7, 3)


async def test_a_failure_is_counted_by_its_code(world: World) -> None:
    world.adapter.error = ProviderTimeout("slow")
    failed, ok = outcomes("provider_timeout"), outcomes("ok")
    with pytest.raises(ProviderTimeout):
        await world.complete()
    chunks = await world.stream()
    with pytest.raises(ProviderTimeout):
        await anext(chunks)
    assert (failed.grown, ok.grown) == (2, 0)
    assert world.adapter.streams_closed == 1


async def test_a_client_that_leaves_is_counted_and_the_call_cancelled(world: World) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    class Slow(FakeAdapter):
        async def complete(self, call: UpstreamCall, credential: str) -> ChatCompletion:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            raise AssertionError

    chat = ChatService(world.chat.catalog, world.chat.limits, world.secrets, {"sim": Slow()})
    closed = outcomes("client_closed")
    task = asyncio.create_task(chat.complete(ChatRequest("big", BODY), CALLER, world.context))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()
    assert closed.grown == 1


async def test_a_stream_passes_chunks_on_and_counts_them_once(world: World) -> None:
    world.adapter.chunks = [chunk("a"), chunk("b"), chunk(usage=USAGE)]
    ok, first = outcomes("ok"), Count("platform_provider_first_chunk_seconds_count", provider="sim", model="big")
    prompt, completion = tokens("input"), tokens("output")
    assert [each async for each in await world.stream()] == world.adapter.chunks
    assert world.steps == ["limiter", "secret", "adapter"]
    assert (ok.grown, first.grown, prompt.grown, completion.grown) == (1, 1, 7, 3)
    assert world.adapter.streams_closed == 1


async def test_usage_that_comes_with_every_chunk_counts_once(world: World) -> None:
    world.adapter.chunks = [
        chunk("a", usage={"prompt_tokens": 7, "completion_tokens": done, "total_tokens": 7 + done})
        for done in (1, 2, 3)
    ]
    prompt, completion = tokens("input"), tokens("output")
    async for _ in await world.stream():
        pass
    assert (prompt.grown, completion.grown) == (7, 3)


async def test_closing_a_stream_closes_the_adapters(world: World) -> None:
    world.adapter.chunks = [chunk("a"), chunk("b")]
    closed, ok = outcomes("client_closed"), outcomes("ok")
    chunks = await world.stream()
    await anext(chunks)
    assert world.adapter.streams_closed == 0
    await chunks.aclose()
    assert world.adapter.streams_closed == 1
    assert (closed.grown, ok.grown) == (1, 0)


async def test_cancelling_a_stream_closes_the_adapters(world: World) -> None:
    waiting = asyncio.Event()

    class Silent(FakeAdapter):
        async def stream(self, call: UpstreamCall, credential: str) -> AsyncGenerator[ChatChunk, None]:
            try:
                waiting.set()
                await asyncio.Event().wait()
                yield chunk("never")
            finally:
                self.streams_closed += 1

    silent = Silent()
    chat = ChatService(world.chat.catalog, world.chat.limits, world.secrets, {"sim": silent})
    closed = outcomes("client_closed")
    _, chunks = await chat.stream(ChatRequest("big", BODY), CALLER, world.context)
    task = asyncio.create_task(chunks.__anext__())
    await waiting.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert silent.streams_closed == 1
    assert closed.grown == 1


async def test_a_stream_that_fails_in_the_middle_closes_and_counts(world: World) -> None:
    world.adapter.chunks = [chunk("a")]
    world.adapter.error = ProviderTimeout("slow")
    failed = outcomes("provider_timeout")
    chunks = await world.stream()
    assert await anext(chunks) == world.adapter.chunks[0]
    with pytest.raises(ProviderTimeout):
        await anext(chunks)
    assert failed.grown == 1
    assert world.adapter.streams_closed == 1
