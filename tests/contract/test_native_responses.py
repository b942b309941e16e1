"""A Responses request to a provider of that format: everything passes, and every failure is one of our errors."""

import json
from typing import Any

import pytest

from apps.provider_simulator.server import ProviderSimulator
from platform_app.errors import ContentFiltered, PlatformError, ProviderBadResponse, ProviderError
from platform_app.llm.formats import ApiFormat
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.interfaces import ModelAdapter
from platform_app.llm.providers.openai_responses.native.response import ResponsesEvent, ResponsesResponse
from platform_app.llm.requests import UpstreamCall
from platform_app.llm.responses import ChatChunk
from platform_app.llm.translation.carried import carry_thinking
from platform_app.llm.usage.counts import TokenUsage
from tests.support.providers.faults import EXPECTED
from tests.support.providers.odd_responses import (
    BOTH_STREAM,
    JSON,
    R_END,
    R_HELLO,
    R_START,
    R_TEXT,
    R_USAGE,
    R_WHOLE,
    R_WORLD,
    STREAM,
    event,
)
from tests.support.providers.wires import KEY, adapter_for, collect, complete, open_stream
from tests.support.servers.network.tcp import canned

WIRE = "openai-responses"
TIMED = {"delay", "slow-first-token", "slow-stream", "hang", "stream-hang", "huge-body", "huge-line", "refused"}
"""Faults that take time, or belong to the connection: the same code reads them for every format."""
REASONING = event("response.output_item.added", output_index=0, item={"id": "r", "type": "reasoning", "summary": []})


def asked(model: str = "sim-ok", text: str = "Hello", *, streams: bool = False, **fields: Any) -> UpstreamCall:
    body = {"input": text, **fields}
    return UpstreamCall(model, body, 60.0, stream=streams, format=ApiFormat.RESPONSES)


@pytest.fixture
def native(pool: ConnectionPool, simulator: ProviderSimulator) -> ModelAdapter:
    return adapter_for(WIRE, pool, simulator.base_url)


async def events_of(pool: ConnectionPool, body: bytes, content_type: bytes = STREAM) -> list[ChatChunk]:
    chunks: list[ChatChunk] = []
    async with canned(content_type, body) as server:
        await collect(adapter_for(WIRE, pool, server.url), asked(streams=True), chunks)
    return chunks


async def test_body_reaches_provider_unchanged(native: ModelAdapter, simulator: ProviderSimulator) -> None:
    """Only the model, the stream and, unless the client asks for storage, `store` and encrypted reasoning are the
    gateway's."""
    fields: dict[str, Any] = {"instructions": "be", "reasoning": {"effort": "low"}, "truncation": "auto"}
    await complete(native, asked("sim-ok@native", **fields))
    await collect(native, asked("sim-ok@native", streams=True, store=True, **fields), [])
    sent = [json.loads(record.body or b"") for record in simulator.requests("sim-ok@native")]
    model = {"input": "Hello", "model": "sim-ok@native", **fields}
    stateless = {"store": False, "include": ["reasoning.encrypted_content"]}
    assert sent == [{**model, **stateless}, {**model, "store": True, "stream": True}]


@pytest.mark.parametrize("stored", [False, True], ids=["stateless", "stored"])
async def test_reasoning_of_other_provider_is_left_out(
    native: ModelAdapter, simulator: ProviderSimulator, stored: bool
) -> None:
    """A session that moves here from an Anthropic route: OpenAI refuses reasoning that it did not encrypt."""
    model = f"sim-ok@carried-{stored}"
    carried = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": carry_thinking([{"a": 1}])}
    kept = [{"type": "reasoning", "summary": [], "encrypted_content": "sealed:x"}, {"role": "user", "content": "Hi"}]
    await complete(native, asked(model, input=[kept[1], carried, *kept], store=stored))
    [record] = simulator.requests(model)
    assert json.loads(record.body or b"")["input"] == [kept[1], *kept]


async def test_response_passes_with_its_bytes(pool: ConnectionPool) -> None:
    raw = json.dumps({**R_WHOLE, "usage": R_USAGE, "of_tomorrow": [1.50]}, indent=1).encode()
    async with canned(JSON, raw) as server:
        done = await complete(adapter_for(WIRE, pool, server.url), asked())
    assert isinstance(done, ResponsesResponse)
    assert (done.raw, done.format, done.id) == (raw, ApiFormat.RESPONSES, "c")
    assert (done.usage, done.finish_reason, done.characters) == (TokenUsage(1, 2, 3), "stop", 11)
    assert (done.generated, done.message["content"]) == (R_WHOLE["output"], "Hello world")


async def test_events_pass_with_their_bytes(pool: ConnectionPool) -> None:
    odd = b'event: response.of_tomorrow\ndata: {"type":"response.of_tomorrow", "x": 1.50}\n\n'
    sent = R_START + R_TEXT + R_HELLO + odd + R_WORLD + R_END
    after = event("response.output_text.delta", delta="after the end") + b"data: [DONE]\n\n"
    chunks = await events_of(pool, sent + after)
    assert all(isinstance(chunk, ResponsesEvent) for chunk in chunks)
    passed = b"".join(
        b"event: %b\ndata: %b\n\n" % (chunk.body["type"].encode(), chunk.raw) for chunk in chunks
    )  # fmt: skip
    assert passed == sent
    assert "".join(chunk.text for chunk in chunks) == "Hello world"
    assert (chunks[0].head["id"], chunks[-1].usage, chunks[-1].last) == ("c", TokenUsage(1, 2, 3), True)
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["stop"]


@BOTH_STREAM
async def test_fault_raises_expected_error(native: ModelAdapter, streams: bool) -> None:
    """Every fault of the simulator that shows in what the provider sends."""
    wrong: dict[str, object] = {}
    for fault, expected in EXPECTED.items():
        if fault in TIMED:
            continue
        kind = expected.stream if streams else expected.json
        chunks: list[ChatChunk] = []
        call = asked(expected.model, "Hello, world", streams=streams)
        try:
            await (collect(native, call, chunks) if streams else complete(native, call))
            found = None
        except PlatformError as error:
            found = type(error)
        began = bool(chunks) == (expected.after_deltas or kind is None)
        if found is not kind or (streams and not began):
            wrong[fault] = (found, len(chunks))
    assert wrong == {}


@pytest.mark.parametrize("last", [R_START, REASONING, R_TEXT, event("keepalive"), event("response.queued")])
async def test_failure_before_content_raises_from_send(pool: ConnectionPool, last: bytes) -> None:
    """Events without content are buffered, so that the policies can still retry or fall back."""
    failed = event("response.failed", response={**R_WHOLE, "status": "failed", "error": {"code": "server_error"}})
    async with canned(STREAM, R_START + last + failed) as server:
        with pytest.raises(ProviderError):
            await open_stream(adapter_for(WIRE, pool, server.url), asked(streams=True))


@pytest.mark.parametrize(
    "first",
    [
        R_HELLO,
        event("response.reasoning_summary_text.delta", delta="x"),
        event("response.output_item.added", item={"type": "function_call", "name": "f"}),
        event("response.output_item.done", item={"type": "reasoning"}),
        event("response.web_search_call.in_progress"),
        event("response.function_call_arguments.delta", delta="{"),
    ],
)
async def test_first_content_of_any_kind_starts_stream(pool: ConnectionPool, first: bytes) -> None:
    async with canned(STREAM, R_START + first + event("error", message="m", code="server_error")) as server:
        stream = await open_stream(adapter_for(WIRE, pool, server.url), asked(streams=True))
        with pytest.raises(ProviderError):
            async for _ in stream:
                pass


@pytest.mark.parametrize("emptied", [[], [{"type": "reasoning", "summary": []}]])
async def test_filter_that_leaves_nothing_raises_content_filtered(pool: ConnectionPool, emptied: list[Any]) -> None:
    cut = {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}
    whole = {**R_WHOLE, **cut, "output": emptied}
    ended = event("response.incomplete", response=whole)
    async with canned(JSON, json.dumps(whole).encode()) as server:
        with pytest.raises(ContentFiltered):
            await complete(adapter_for(WIRE, pool, server.url), asked())
    with pytest.raises(ContentFiltered):
        await events_of(pool, R_START + ended)
    chunks = await events_of(pool, R_START + R_TEXT + R_HELLO + ended)
    assert chunks[-1].finish_reason == "content_filter"


async def test_json_for_stream_becomes_whole_grammar(pool: ConnectionPool) -> None:
    chunks = await events_of(pool, json.dumps({**R_WHOLE, "usage": R_USAGE}).encode(), JSON)
    kinds = [chunk.body["type"].removeprefix("response.") for chunk in chunks]
    assert kinds == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.done",
        "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert [chunk.body["sequence_number"] for chunk in chunks] == list(range(len(chunks)))
    assert chunks[-1].head == {**R_WHOLE, "usage": R_USAGE}


async def test_stream_for_json_becomes_response(pool: ConnectionPool) -> None:
    """Some servers leave the output of the last event empty."""
    item = R_WHOLE["output"]
    assert isinstance(item, list)
    done = event("response.output_item.done", output_index=0, item=item[0])
    end = event("response.completed", response={**R_WHOLE, "output": []})
    async with canned(STREAM, R_START + R_TEXT + R_HELLO + R_WORLD + done + end) as server:
        whole = await complete(adapter_for(WIRE, pool, server.url), asked())
    assert whole.body == R_WHOLE
    assert json.loads(whole.raw) == R_WHOLE


@BOTH_STREAM
async def test_stored_response_continues(native: ModelAdapter, streams: bool) -> None:
    first = await complete(native, asked(store=True))
    call = asked(text="And?", streams=streams, previous_response_id=first.id)
    if streams:
        chunks: list[ChatChunk] = []
        await collect(native, call, chunks)
        assert "".join(chunk.text for chunk in chunks) == "You said: And?"
    else:
        assert (await complete(native, call)).message["content"] == "You said: And?"


async def test_event_without_its_response_raises_bad_response(pool: ConnectionPool) -> None:
    for last in (event("response.completed"), event("response.completed", response=None), event("response.failed")):
        with pytest.raises(ProviderBadResponse):
            await events_of(pool, R_START + R_TEXT + R_HELLO + last)


async def test_credential_is_sent_as_bearer(native: ModelAdapter, simulator: ProviderSimulator) -> None:
    await native.send(asked("sim-ok@bearer"), KEY)
    [record] = simulator.requests("sim-ok@bearer")
    assert (record.path, "authorization" in record.header_names) == ("/v1/responses", True)
