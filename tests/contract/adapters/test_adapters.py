"""Every adapter against the simulator: responses in OpenAI's shape, and an error of ours for every failure."""

import asyncio
import json
import time
from typing import Any

import httpx
import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from apps.provider_simulator.record import credential_digest
from apps.provider_simulator.server import ProviderSimulator
from platform_app.errors import (
    PlatformError,
    ProviderBadResponse,
    ProviderRejectedRequest,
    ProviderTimeout,
    ProviderUnavailable,
)
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.interfaces import ModelAdapter
from platform_app.llm.requests import Operation
from platform_app.llm.responses import ChatChunk
from platform_app.llm.usage.counts import TokenUsage
from tests.support.providers.faults import EXPECTED, IDLE_SECONDS
from tests.support.providers.wires import KEY, MIB, adapter_for, call, collect, complete, text_of, url_of
from tests.support.servers.network.tcp import Server, answering, canned, read_request
from tests.support.timing.responsive_time import responsive_time

CLOCK = {"type": "function", "function": {"name": "clock"}}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
BOTH_STREAM = pytest.mark.parametrize("streams", [False, True], ids=["json", "stream"])
OPENAI_SHAPED = pytest.mark.parametrize("wire", ["openai", "azure"], indirect=True)


async def test_chat_returns_completion(adapter: ModelAdapter) -> None:
    done = await complete(adapter, call())
    assert (done.message["content"], done.finish_reason) == ("You said: Hello", "stop")
    assert done.usage == TokenUsage(2, 4, 6, 0)
    assert done.id
    assert json.loads(done.raw) == done.body
    parsed = ChatCompletion.model_validate_json(done.raw)
    assert (parsed.object, parsed.model, parsed.choices[0].message.role) == ("chat.completion", "sim-ok", "assistant")


async def test_stream_returns_chunks_and_usage(adapter: ModelAdapter) -> None:
    chunks: list[ChatChunk] = []
    await collect(adapter, call(streams=True), chunks)
    assert text_of(chunks) == "You said: Hello"
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["stop"]
    assert [chunk.usage for chunk in chunks if chunk.usage] == [TokenUsage(2, 4, 6, 0)]
    assert chunks[-1].usage is not None
    assert len({chunk.id for chunk in chunks if chunk.body["choices"]}) == 1
    # Azure's first chunk, about the prompt, is not one of OpenAI's.
    parsed = [ChatCompletionChunk.model_validate_json(chunk.raw) for chunk in chunks if chunk.body["object"]]
    assert {chunk.object for chunk in parsed} == {"chat.completion.chunk"}
    assert parsed[0].choices[0].delta.role == "assistant"
    assert [json.loads(chunk.raw) for chunk in chunks] == [chunk.body for chunk in chunks]


@BOTH_STREAM
async def test_parallel_tool_calls_are_returned(adapter: ModelAdapter, streams: bool) -> None:
    asked = call("sim-ok", "call: weather,clock", streams=streams, tools=[WEATHER, CLOCK])
    if streams:
        chunks: list[ChatChunk] = []
        await collect(adapter, asked, chunks)
        calls: dict[int, dict[str, str]] = {}
        for part in (part for chunk in chunks for part in chunk.delta.get("tool_calls", ())):
            made = calls.setdefault(part["index"], {"name": "", "arguments": "", "id": ""})
            made["id"] += part.get("id", "")
            made["name"] += part["function"].get("name", "")
            made["arguments"] += part["function"]["arguments"]
        found = [calls[index] for index in sorted(calls)]
        reason = "".join(chunk.finish_reason or "" for chunk in chunks)
    else:
        done = await complete(adapter, asked)
        found = [{"id": made["id"], **made["function"]} for made in done.message["tool_calls"]]
        reason = str(done.finish_reason)
        assert done.message["content"] is None
    assert [(made["name"], json.loads(made["arguments"])) for made in found] == [
        ("weather", {"city": "text"}),
        ("clock", {}),
    ]
    assert len({made["id"] for made in found} - {""}) == 2
    assert reason == "tool_calls"


async def test_tool_loop_completes(adapter: ModelAdapter) -> None:
    question = {"role": "user", "content": "call: weather,clock"}
    called = (await complete(adapter, call(messages=[question], tools=[WEATHER, CLOCK]))).message
    results = [
        {"role": "tool", "tool_call_id": made["id"], "content": f"it is {number}"}
        for number, made in enumerate(called["tool_calls"])
    ]
    done = await complete(adapter, call(messages=[question, called, *results], tools=[WEATHER, CLOCK]))
    assert (done.message["content"], done.finish_reason) == ("The tool said: it is 1", "stop")


async def test_structured_output_matches_schema(adapter: ModelAdapter) -> None:
    schema = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    done = await complete(adapter, call(response_format=form))
    assert json.loads(done.message["content"]) == {"answer": "You said: Hello"}


async def test_max_tokens_and_stop_set_finish_reason(adapter: ModelAdapter, wire: str) -> None:
    """Responses has no stop sequences."""
    cut = await complete(adapter, call(max_tokens=2))
    assert (cut.message["content"], cut.finish_reason) == ("You said", "length")
    if wire == "openai-responses":
        with pytest.raises(ProviderRejectedRequest) as caught:
            await complete(adapter, call(stop=["Hel"]))
        assert caught.value.param == "stop"
        return
    stopped = await complete(adapter, call(stop=["Hel"]))
    assert (stopped.message["content"], stopped.finish_reason) == ("You said: ", "stop")


@BOTH_STREAM
async def test_large_request_arrives_complete(adapter: ModelAdapter, streams: bool) -> None:
    asked = call("sim-ok", "x" * 8 * MIB, streams=streams, max_tokens=2)
    if streams:
        chunks: list[ChatChunk] = []
        await collect(adapter, asked, chunks)
        usage = chunks[-1].usage
    else:
        usage = (await complete(adapter, asked)).usage
    assert usage is not None
    assert usage.prompt_tokens == 2 * MIB


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n": 3},
        {"logprobs": True, "top_logprobs": 2},
        {"tools": [WEATHER, CLOCK], "messages": [{"role": "user", "content": "call: weather,clock"}]},
        {"reasoning_effort": "high"},
        {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
        {"messages": [{"role": "user", "content": "refuse: please"}]},
        {"prompt_cache_key": "a", "nobody_has_heard_of_this": {"deep": [1, None, "ü"]}},
    ],
    ids=["plain", "n", "logprobs", "tools", "reasoning", "audio", "refusal", "unknown"],
)
@OPENAI_SHAPED
@BOTH_STREAM
async def test_openai_format_passes_unchanged(
    adapter: ModelAdapter, simulator: ProviderSimulator, wire: str, fields: dict[str, Any], streams: bool
) -> None:
    """The response has the same bytes without the gateway; with `seed` the simulator repeats itself."""
    asked = call("sim-ok@same", streams=streams, seed=1, **fields)
    body = {**asked.body, "model": "sim-ok@same"}
    url, key = f"{simulator.base_url}/chat/completions", {"Authorization": f"Bearer {KEY}"}
    if wire == "azure":
        url = f"{simulator.azure_url}/openai/deployments/sim-ok@same/chat/completions?api-version=2024-10-21"
        key = {"api-key": KEY}
    if streams:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    async with httpx.AsyncClient(trust_env=False) as http:
        direct = await http.post(url, json=body, headers=key)
    if not streams:
        assert (await complete(adapter, asked)).raw == direct.content
        return
    chunks: list[ChatChunk] = []
    await collect(adapter, asked, chunks)
    passed = b"".join(b"data: " + chunk.raw + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
    assert passed == direct.content


@OPENAI_SHAPED
async def test_embeddings_return_vectors(adapter: ModelAdapter) -> None:
    done = await complete(adapter, call(operation=Operation.EMBEDDINGS, input=["a", "b"], dimensions=4))
    parsed = CreateEmbeddingResponse.model_validate_json(done.raw)
    assert [len(item.embedding) for item in parsed.data] == [4, 4]
    assert done.usage == TokenUsage(2, 0, 2, 0)


@OPENAI_SHAPED
@pytest.mark.parametrize("fault", ["rate-limited-7", "malformed-json", "wrong-shape", "stream-error", "hang"])
async def test_embeddings_raise_same_errors_as_chats(adapter: ModelAdapter, fault: str) -> None:
    kind = EXPECTED[fault.removesuffix("-7")].json
    assert kind is not None
    with pytest.raises(kind):
        await complete(adapter, call(f"sim-{fault}", operation=Operation.EMBEDDINGS, input="a"))


@pytest.mark.parametrize("wire", ["anthropic"], indirect=True)
async def test_embeddings_without_support_are_refused(adapter: ModelAdapter, simulator: ProviderSimulator) -> None:
    before = simulator.count("sim-ok")
    with pytest.raises(ProviderRejectedRequest) as caught:
        await complete(adapter, call(operation=Operation.EMBEDDINGS, input="a"))
    assert caught.value.details == ["embeddings: is not available at this model's provider"]
    assert simulator.count("sim-ok") == before


PATHS = {
    "openai": "/v1/chat/completions",
    "openai-responses": "/v1/responses",
    "azure": "/openai/deployments/sim-ok@sent/chat/completions",
    "anthropic": "/anthropic/v1/messages",
}
KEY_HEADERS = {
    "openai": "authorization",
    "openai-responses": "authorization",
    "azure": "api-key",
    "anthropic": "x-api-key",
}


@BOTH_STREAM
async def test_provider_gets_path_credential_and_headers(
    pool: ConnectionPool, simulator: ProviderSimulator, wire: str, streams: bool
) -> None:
    adapter = adapter_for(wire, pool, url_of(wire, simulator), headers={"X-Team": "billing"})
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    asked = call("sim-ok@sent", streams=streams, headers={"traceparent": trace})
    await (collect(adapter, asked, []) if streams else complete(adapter, asked))

    record = simulator.requests("sim-ok@sent")[-1]
    assert record.path == PATHS[wire]
    assert record.credential == credential_digest(KEY)
    assert record.traceparent == trace
    version = {"anthropic-version"} if wire == "anthropic" else set()
    assert set(record.header_names) == version | {
        "host", "content-type", "content-length", "accept", "accept-encoding", "user-agent", "traceparent", "x-team",
        KEY_HEADERS[wire],
    }  # fmt: skip


@OPENAI_SHAPED
@BOTH_STREAM
async def test_provider_gets_body_of_caller(
    adapter: ModelAdapter, simulator: ProviderSimulator, wire: str, streams: bool
) -> None:
    more: dict[str, Any] = {"stream_options": {"include_obfuscation": False}} if streams else {}
    asked = call("sim-ok@body", streams=streams, temperature=0.5, nobody_has_heard_of_this=[1], **more)
    await (collect(adapter, asked, []) if streams else complete(adapter, asked))
    record = simulator.requests("sim-ok@body")[-1]
    assert record.body is not None
    model = {} if wire == "azure" else {"model": "sim-ok@body"}
    options = {"include_obfuscation": False, "include_usage": True}
    asked_for = {"stream": True, "stream_options": options} if streams else {}
    assert json.loads(record.body) == {**asked.body, **model, **asked_for}


async def test_no_credential_sends_no_auth_header(pool: ConnectionPool, wire: str) -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await read_request(reader))

    async with Server(serve) as server:
        with pytest.raises(ProviderUnavailable):
            await complete(adapter_for(wire, pool, server.url), call(), None)
    head = heads[0].lower()
    assert [name for name in (b"authorization:", b"api-key:", b"x-api-key:") if name in head] == []


@pytest.mark.parametrize("fault", EXPECTED)
@BOTH_STREAM
async def test_simulator_fault_raises_expected_error(
    pool: ConnectionPool, simulator: ProviderSimulator, wire: str, fault: str, streams: bool
) -> None:
    expected = EXPECTED[fault]
    root = url_of(wire, simulator)
    if fault == "refused":
        root = root.replace(str(simulator.port), str(simulator.refused_port))
    adapter = adapter_for(wire, pool, root, idle_timeout=IDLE_SECONDS if "hang" in fault else 30)
    kind = expected.stream if streams else expected.json
    chunks: list[ChatChunk] = []
    asked = call(expected.model, "Hello, world", streams=streams)
    before = simulator.count(expected.model)

    async def run() -> None:
        await (collect(adapter, asked, chunks) if streams else complete(adapter, asked))

    if kind is None:
        await run()
    else:
        with pytest.raises(PlatformError) as caught:
            await run()
        assert type(caught.value) is kind
        assert caught.value.wait_seconds == expected.retry_after
        told = " ".join([caught.value.message, *(caught.value.details or ())])
        assert KEY[:8] not in told
        assert root not in told
        assert bool(chunks) == (streams and expected.after_deltas)
    assert simulator.count(expected.model) - before == (fault != "refused")


@pytest.mark.parametrize("wire", ["openai"], indirect=True)
async def test_stream_without_done_is_complete(pool: ConnectionPool, wire: str) -> None:
    """Some servers omit [DONE]; a finish_reason is enough."""
    chunk = b'data: {"id": "a", "choices": [{"delta": {"content": "x"}, "finish_reason": %b}]}\n\n'
    async with canned(b"text/event-stream", chunk % b"null", chunk % b'"stop"') as server:
        chunks: list[ChatChunk] = []
        await collect(adapter_for(wire, pool, server.url), call(streams=True), chunks)
        assert len(chunks) == 2
    async with canned(b"text/event-stream", chunk % b"null") as server:
        with pytest.raises(ProviderBadResponse):
            await collect(adapter_for(wire, pool, server.url), call(streams=True), [])


@pytest.mark.parametrize(
    "events",
    [
        b"data: [DONE]\n\n",
        b'data: {"choices": []}\n\ndata: [DONE]\n\n',
        b": comment\n\n",
        b"data: 1\n\n",
        b"data: []\n\n",
        b"",
        b'data: {"type": "message_stop"}\n\n',
        b'data: {"type": "ping"}\n\n',
        b'data: {"type": "message_start"}\n\n',
        b'data: {"type": "message_start", "message": {}}\n\ndata: {"type": "message_stop"}\n\n',
    ],
    ids=["DONE", "no choice", "comment", "number", "list", "nothing", "stop", "ping", "no message", "no end"],
)
async def test_stream_without_content_raises_bad_response(pool: ConnectionPool, wire: str, events: bytes) -> None:
    """A ChunkStream ends normally only after a complete response."""
    async with canned(b"text/event-stream", events) as server:
        with pytest.raises(ProviderBadResponse):
            await collect(adapter_for(wire, pool, server.url), call(streams=True), [])


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"1", b'{"choices": []}', b'{"choices": [{}]}', b'{"choices": [null]}', b'{"choices": 1}',
     b'{"type": "message"}', b'{"type": "message", "content": 1}'],
)  # fmt: skip
async def test_json_without_completion_raises_bad_response(pool: ConnectionPool, wire: str, body: bytes) -> None:
    async with canned(b"application/json", body) as server:
        with pytest.raises(ProviderBadResponse):
            await complete(adapter_for(wire, pool, server.url), call())


@BOTH_STREAM
async def test_invalid_http_raises_bad_response(pool: ConnectionPool, wire: str, streams: bool) -> None:
    async with answering(b"SSH-2.0-OpenSSH_9.6\r\n") as server:
        adapter = adapter_for(wire, pool, server.url)
        with pytest.raises(ProviderBadResponse):
            await adapter.send(call(streams=streams), KEY)


@BOTH_STREAM
async def test_deadline_covers_whole_response(
    pool: ConnectionPool, simulator: ProviderSimulator, wire: str, streams: bool
) -> None:
    """Every chunk arrives in time, but the whole stream would take 50 s."""
    adapter = adapter_for(wire, pool, url_of(wire, simulator))
    asked = call("sim-slow-stream-100", "tokens:500", streams=streams, seconds=0.5)
    started = time.monotonic()
    async with responsive_time() as spent:
        with pytest.raises(ProviderTimeout):
            await (collect(adapter, asked, []) if streams else complete(adapter, asked))
    assert time.monotonic() - started > 0.4
    assert spent.seconds < 15


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_no_time_left_sends_nothing(adapter: ModelAdapter, simulator: ProviderSimulator, seconds: float) -> None:
    before = simulator.count("sim-ok")
    with pytest.raises(ProviderTimeout):
        await complete(adapter, call(seconds=seconds))
    assert simulator.count("sim-ok") == before
