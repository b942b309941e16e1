"""When a stream begins, how its blocks stay separate, and what does not count as a failure (issue 11, kinds 5, 18,
19)."""

import json

import pytest

from apps.provider_simulator.server import ProviderSimulator
from platform_app.errors import (
    ProviderBadResponse,
    ProviderError,
    ProviderTimeout,
)
from platform_app.llm.http.event_stream import MAX_BUFFERED_CHUNKS
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.interfaces import ModelAdapter
from platform_app.llm.policies.failure_table import Health, failure_policy_of
from platform_app.llm.responses import ChatChunk
from tests.support.providers.odd_responses import (
    A_START,
    A_TEXT,
    ANTHROPIC,
    BOTH_STREAM,
    FILTER_RESULTS,
    HELLO,
    OPENAI_SHAPED,
    R_START,
    R_TEXT,
    ROLE,
    STREAM,
    USAGE,
    chunk,
    error_of,
    event,
    stream_of,
)
from tests.support.providers.wires import adapter_for, call, collect, complete, open_stream, text_of, url_of
from tests.support.servers.network.tcp import canned

EMPTY_CHUNKS = {
    "openai": [ROLE, chunk({"content": None}), chunk({"content": "", "refusal": None}), chunk({"tool_calls": []})],
    "azure": [FILTER_RESULTS, ROLE, chunk({})],
    "openai-responses": [R_START, R_TEXT, event("keepalive")],
    "anthropic": [A_START, A_TEXT, event("ping")],
}


async def test_error_after_empty_chunks_raises_from_send(pool: ConnectionPool, wire: str) -> None:
    """Kind 18: the policies can still retry or fall back."""
    silent = b"".join(EMPTY_CHUNKS[wire])
    error = b'data: {"type": "error", "error": {"type": "api_error", "message": "m", "code": 500}}\n\n'
    assert type(await error_of(pool, wire, silent + error)) is ProviderError
    assert type(await error_of(pool, wire, silent)) is ProviderBadResponse


@OPENAI_SHAPED
@pytest.mark.parametrize(
    "content_chunk",
    [
        HELLO,
        chunk({"content": " "}),
        chunk({"reasoning_content": "x"}),
        chunk({"reasoning": "x"}),
        chunk({"refusal": "no"}),
        chunk({"tool_calls": [{"index": 0, "function": {"name": "f"}}]}),
        chunk({"function_call": {"name": "f"}}),
        chunk({"audio": {"id": "a"}}),
        chunk({}, "stop"),
        USAGE,
    ],
)
async def test_first_content_of_any_kind_starts_stream(pool: ConnectionPool, wire: str, content_chunk: bytes) -> None:
    """Kind 18: nothing is buffered longer, and all bytes pass in order."""
    silent = EMPTY_CHUNKS[wire]
    failing = b"".join(silent) + content_chunk + b'data: {"error": {"message": "m"}}\n\n'
    async with canned(STREAM, failing) as server:
        stream = await open_stream(adapter_for(wire, pool, server.url), call(streams=True))
        passed = [b"data: %b\n\n" % (await anext(stream)).raw for _ in range(len(silent) + 1)]
        assert passed == [*silent, content_chunk]
        with pytest.raises(ProviderError):
            await anext(stream)


@OPENAI_SHAPED
async def test_buffered_chunks_are_bounded(pool: ConnectionPool, wire: str) -> None:
    """Kind 18: a stream with many chunks without content is passed on unchanged."""
    many = ROLE * (MAX_BUFFERED_CHUNKS + 10)
    large = chunk({"role": "x" * 70_000}) * 3
    for silent, held in ((many, MAX_BUFFERED_CHUNKS), (large, 1)):
        async with canned(STREAM, silent + b'data: {"error": {"message": "m"}}\n\n') as server:
            stream = await open_stream(adapter_for(wire, pool, server.url), call(streams=True))
            assert len(stream._arrived) == held
            with pytest.raises(ProviderError):
                async for _ in stream:
                    pass


@ANTHROPIC
async def test_interleaved_blocks_stay_separate(pool: ConnectionPool, wire: str) -> None:
    """Kind 19: the events of two tool calls, a text and a thought alternate."""

    def delta(index: int, kind: str, **fields: str) -> bytes:
        return event("content_block_delta", index=index, delta={"type": kind, **fields})

    def tool(index: int, name: str) -> bytes:
        block = {"type": "tool_use", "id": name, "name": name, "input": {}}
        return event("content_block_start", index=index, content_block=block)

    body = b"".join(
        [
            A_START,
            event("content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""}),
            tool(1, "a"),
            tool(2, "b"),
            delta(1, "input_json_delta", partial_json='{"x":'),
            delta(0, "thinking_delta", thinking="th"),
            delta(2, "input_json_delta", partial_json='{"y"'),
            event("content_block_start", index=3, content_block={"type": "text", "text": ""}),
            delta(3, "text_delta", text="Hel"),
            delta(1, "input_json_delta", partial_json="1}"),
            delta(0, "thinking_delta", thinking="ink"),
            event("content_block_stop", index=1),
            delta(2, "input_json_delta", partial_json=":2}"),
            delta(3, "text_delta", text="lo"),
            tool(4, "c"),
            event("content_block_stop", index=4),
            delta(0, "signature_delta", signature="s"),
            event("content_block_stop", index=0),
            event("content_block_stop", index=2),
            event("content_block_stop", index=3),
            event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 2}),
            event("message_stop"),
        ]
    )
    chunks = await stream_of(pool, wire, body)
    calls: dict[int, list[str]] = {}
    for part in (part for each in chunks for part in each.delta.get("tool_calls", ())):
        made = calls.setdefault(part["index"], ["", ""])
        made[0] += part["function"].get("name", "")
        made[1] += part["function"]["arguments"]
    assert calls == {0: ["a", '{"x":1}'], 1: ["b", '{"y":2}'], 2: ["c", "{}"]}
    assert text_of(chunks) == "Hello"
    thoughts = [block for each in chunks for block in each.delta.get("thinking_blocks", ())]
    assert thoughts == [{"type": "thinking", "thinking": "think", "signature": "s"}]
    assert "".join(each.delta.get("reasoning_content", "") for each in chunks) == "think"


@pytest.mark.parametrize("streams", [True], ids=["stream"])
async def test_interleaved_simulator_calls_stay_separate(adapter: ModelAdapter, streams: bool) -> None:
    """Kind 19, over every wire format."""
    tools = [{"type": "function", "function": {"name": name}} for name in ("clock", "weather")]
    chunks: list[ChatChunk] = []
    await collect(adapter, call("sim-interleaved", "call: clock,weather", streams=streams, tools=tools), chunks)
    calls: dict[int, list[str]] = {}
    for part in (part for each in chunks for part in each.delta.get("tool_calls", ())):
        made = calls.setdefault(part["index"], ["", ""])
        made[0] += part["function"].get("name", "")
        made[1] += part["function"]["arguments"]
    assert sorted(name for name, _ in calls.values()) == ["clock", "weather"]
    assert all(json.loads(arguments) == {} for _, arguments in calls.values())


@BOTH_STREAM
async def test_deadline_while_sending_does_not_count_as_failure(
    pool: ConnectionPool, simulator: ProviderSimulator, wire: str, streams: bool
) -> None:
    """Kind 5: the long responses of one caller do not affect others. An idle provider counts as a failure."""
    adapter = adapter_for(wire, pool, url_of(wire, simulator))
    for model, health in (("sim-slow-stream-400@cut", Health.UNKNOWN), ("sim-hang@cut", Health.FAILS)):
        asked = call(model, "tokens:50", streams=streams, seconds=1.0)
        with pytest.raises(ProviderTimeout) as caught:
            await (collect(adapter, asked, []) if streams else complete(adapter, asked))
        verdict = failure_policy_of(caught.value)
        assert (verdict.retry, verdict.fall_back, verdict.health) == (False, True, health)


@BOTH_STREAM
async def test_too_large_response_does_not_count_as_failure(
    pool: ConnectionPool, simulator: ProviderSimulator, wire: str, streams: bool
) -> None:
    """Kind 5: a retry would be as large."""
    adapter = adapter_for(wire, pool, url_of(wire, simulator))
    asked = call("sim-huge-body-40", streams=streams)
    with pytest.raises(ProviderBadResponse) as caught:
        await (collect(adapter, asked, []) if streams else complete(adapter, asked))
    verdict = failure_policy_of(caught.value)
    assert (verdict.retry, verdict.health) == (False, Health.UNKNOWN)
