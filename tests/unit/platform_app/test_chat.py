"""`ChatService` on fakes: the order of its steps, and what each outcome records."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from platform_app.auth.caller import Caller
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
from platform_app.ledger.events.usage_record import MAX_TOKENS
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.formats import ApiFormat
from platform_app.llm.requests import ModelRequest, Operation
from platform_app.llm.responses import ModelResponse
from tests.support.fakes.chat_service import BODY, CALLER, USAGE, World, chunk
from tests.support.fakes.core import Count


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


async def test_context_names_the_provider_that_responded(world: World) -> None:
    await world.send()
    noted = world.context
    assert (noted.provider, noted.upstream_model, noted.attempts) == ("sim", "up-big", 1)


async def test_all_rules_are_checked_in_one_limiter_call(world: World) -> None:
    await world.send()
    [charges] = world.limiter.asked
    assert [charge.counter for charge in charges] == [
        "fbp:rl:{kkkkkkkkkkkk}:key-rpm:requests:60",
        "fbp:rl:{shared}:model-rpm:requests:60:big",
    ]
    assert world.context.limits is not None


async def test_missing_model_selects_the_default_model(world: World) -> None:
    assert (await world.send(None)).model == "small"
    assert world.context.model == "small"


async def test_unknown_model_uses_no_limit(world: World) -> None:
    with pytest.raises(ModelNotFound, match="'gpt-9' does not exist"):
        await world.send("gpt-9")
    assert world.steps == []
    assert world.context.model is None  # a name that the client made up must not become a metric label


@pytest.mark.parametrize("allowed", [{"big"}, {"big", "small"}, None])
async def test_stored_conversation_needs_its_models_permission(world: World, allowed: set[str] | None) -> None:
    """Another model with the same route must not continue what the key may not read."""
    caller = replace(CALLER, allowed_models=None if allowed is None else frozenset(allowed))
    request = ModelRequest("big", BODY, pinned=("sim", "up-big"), stored_model="small")
    if allowed == {"big"}:
        with pytest.raises(ModelNotAllowed, match="may not use the model 'small'"):
            await world.chat.send(request, caller, world.context)
        assert world.steps == []
    else:
        await world.chat.send(request, caller, world.context)


async def test_forbidden_model_uses_no_limit(world: World) -> None:
    caller = Caller("k" * 12, "n", "o", "test", frozenset({"platform:chat"}), frozenset({"small"}))
    with pytest.raises(ModelNotAllowed, match="may not use the model 'big'"):
        await world.send("big", caller)
    assert world.steps == []
    await world.send("small", caller)
    # Omitting the model does not avoid the check.
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


async def test_limited_request_calls_no_provider(world: World) -> None:
    world.limiter.deny_seconds = 3.0
    with pytest.raises(RateLimited) as caught:
        await world.send()
    assert caught.value.retry_after == 3
    assert world.steps == ["limiter"]
    assert world.context.limits is not None
    assert world.context.limits.denied_by is not None
    assert world.ledger.events == []


async def test_unavailable_limiter_refuses_the_request(world: World) -> None:
    world.limiter.down = True
    with pytest.raises(LimiterUnavailable):
        await world.send()
    assert world.steps == ["limiter"]


async def test_response_usage_is_counted_and_recorded(world: World) -> None:
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


async def test_response_without_usage_is_estimated(world: World) -> None:
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
        (ProviderTimeout("slow"), True),  # the provider may have generated and charged a response
    ],
)
async def test_failure_is_recorded_with_its_error_code(
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


async def test_request_without_provider_call_is_not_recorded(world: World) -> None:
    world.upstream.sends = False
    world.upstream.error = ProviderNotConfigured("no credential")
    with pytest.raises(ProviderNotConfigured):
        await world.send()
    assert world.ledger.events == []
    assert world.context.attempts == 0


async def test_disconnect_before_response_is_recorded(world: World) -> None:
    world.upstream.wait = asyncio.Event()
    task = asyncio.create_task(world.send())
    await world.upstream.waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (world.record.outcome, world.record.estimated) == ("client_closed", True)
    assert world.record.prompt_tokens > 0


async def test_stream_is_recorded_when_it_ends(world: World) -> None:
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


async def test_usage_in_every_chunk_counts_once(world: World) -> None:
    world.upstream.chunks = [
        chunk("a", usage={"prompt_tokens": 7, "completion_tokens": done, "total_tokens": 7 + done})
        for done in (1, 2, 3)
    ]
    async for _ in await world.stream():
        pass
    assert (world.record.prompt_tokens, world.record.completion_tokens) == (7, 3)


async def test_closed_stream_is_estimated(world: World) -> None:
    world.upstream.chunks = [chunk("x" * 400), chunk("b")]
    async with aclosing(await world.stream()) as chunks:
        await anext(chunks)
        assert world.upstream.streams_closed == 0
    assert world.upstream.streams_closed == 1
    record = world.record
    assert (record.outcome, record.estimated) == ("client_closed", True)
    assert record.completion_tokens >= 100


@pytest.mark.parametrize("stored", [0, 9000])
async def test_abandoned_stream_is_charged_its_stored_input(world: World, stored: int) -> None:
    """The provider reads the whole stored conversation, and counts it only at the end."""
    world.upstream.chunks = [chunk("Hi"), chunk("there")]
    request = ModelRequest(
        "big", {"input": "x", "max_output_tokens": 50}, stream=True, format=ApiFormat.RESPONSES, stored_tokens=stored
    )
    result = await world.chat.send(request, CALLER, world.context)
    assert isinstance(result.response, ChunkStream)
    await result.response.aclose()
    own = world.record.prompt_tokens - stored
    assert 0 < own < 10
    assert world.record.estimated
    assert result.conversation_tokens == stored + own + 50


async def test_counted_response_gives_the_tokens_of_its_conversation(world: World) -> None:
    body = {"choices": [{"message": {"role": "assistant", "content": "hi"}}], "usage": USAGE}
    world.upstream.completion = ModelResponse(b"{}", body)
    request = ModelRequest("big", {"input": "x"}, format=ApiFormat.RESPONSES)
    result = await world.chat.send(request, CALLER, world.context)
    assert result.usage is not None
    assert result.conversation_tokens == 10


async def test_cancelled_read_of_idle_stream_closes_provider_stream(world: World) -> None:
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


async def test_failing_stream_is_recorded_with_its_error_code(world: World) -> None:
    world.upstream.chunks = [chunk("a")]
    world.upstream.error = ProviderTimeout("slow")
    chunks = await world.stream()
    assert await anext(chunks) == world.upstream.chunks[0]
    with pytest.raises(ProviderTimeout):
        await anext(chunks)
    assert (world.record.outcome, world.record.estimated) == ("provider_timeout", True)
    assert world.upstream.streams_closed == 1


async def test_intent_is_written_before_the_call_and_withdrawn(world: World) -> None:
    """The intent is recorded if the process dies: the most tokens that the call may use, at that provider's price."""
    world.upstream.wait = asyncio.Event()
    task = asyncio.create_task(world.send())
    await world.upstream.waiting.wait()
    [(intent, settlement)] = world.ledger.intents
    assert (world.ledger.open_intents, world.ledger.events) == (1, [])
    assert (intent.outcome, intent.estimated, intent.attempts) == ("interrupted", True, 1)
    assert (intent.provider, intent.upstream_model, intent.owner) == ("sim", "up-big", "team-a")
    assert intent.completion_tokens == 1024, "the default estimate for a request without max_tokens"
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


async def test_request_without_provider_call_has_no_intent(world: World) -> None:
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
