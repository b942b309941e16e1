"""OpenAIAdapter against the simulator: every outcome as one of our errors, every connection released."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

import aiohttp
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from platform_app.llm.types import ChatChunk, TokenUsage, UpstreamCall

from apps.provider_simulator.record import credential_digest
from apps.provider_simulator.server import ProviderSimulator
from platform_app.errors import PlatformError, ProviderBadResponse, ProviderTimeout
from platform_app.llm.openai_adapter import Deadlines, OpenAIAdapter
from tests.support.faults import EXPECTED, FIRST_BYTE_SECONDS
from tests.support.http import until

KEY = "sk-contract-51f0a9c2"
MIB = 1024 * 1024


class Connections:
    """How many connections a session made."""

    def __init__(self) -> None:
        self.made = 0
        self.trace = aiohttp.TraceConfig()
        self.trace.on_connection_create_end.append(self._count)

    async def _count(self, *_: object) -> None:
        self.made += 1


@pytest.fixture
def connections() -> Connections:
    return Connections()


@pytest.fixture
async def session(connections: Connections) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(trace_configs=[connections.trace]) as opened:
        yield opened


@pytest.fixture
def adapter(session: aiohttp.ClientSession, simulator: ProviderSimulator) -> OpenAIAdapter:
    return make(session, simulator.base_url)


def make(
    session: aiohttp.ClientSession, base_url: str, first_byte: float = FIRST_BYTE_SECONDS, total: float = 5.0
) -> OpenAIAdapter:
    return OpenAIAdapter(session, base_url, Deadlines(connect=1.0, first_byte=first_byte, total=total), 32 * MIB)


def call(model: str = "sim-ok", text: str = "Hello", /, **fields: object) -> UpstreamCall:
    return UpstreamCall(model, {"messages": [{"role": "user", "content": text}], **fields})


async def collect(adapter: OpenAIAdapter, asked: UpstreamCall, into: list[ChatChunk]) -> None:
    """Keeps what came although the rest fails."""
    async with aclosing(adapter.stream(asked, KEY)) as chunks:
        async for chunk in chunks:
            into.append(chunk)  # noqa: PERF401 - see the docstring


# --- good answers


async def test_a_completion(adapter: OpenAIAdapter) -> None:
    done = await adapter.complete(call(), KEY)
    assert (done.message["content"], done.finish_reason) == ("You said: Hello", "stop")
    assert done.usage == TokenUsage(2, 4, 6, 0)
    assert done.id is not None
    assert json.loads(done.raw) == done.body


async def test_cached_tokens_are_counted(adapter: OpenAIAdapter) -> None:
    done = await adapter.complete(call(prompt_cache_key="a"), KEY)
    assert done.usage == TokenUsage(2, 4, 6, 1)


async def test_a_stream(adapter: OpenAIAdapter) -> None:
    chunks: list[ChatChunk] = []
    await collect(adapter, call(), chunks)
    assert "".join(chunk.delta.get("content") or "" for chunk in chunks) == "You said: Hello"
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["stop"]
    assert [chunk.usage for chunk in chunks if chunk.usage] == [TokenUsage(2, 4, 6, 0)]
    assert chunks[-1].usage is not None
    assert len({chunk.id for chunk in chunks}) == 1


async def test_tool_calls(adapter: OpenAIAdapter) -> None:
    done = await adapter.complete(
        call("sim-ok", "call: clock", tools=[{"type": "function", "function": {"name": "clock"}}]), KEY
    )
    assert done.finish_reason == "tool_calls"
    assert done.message["tool_calls"][0]["function"]["name"] == "clock"


# --- what is sent


@pytest.mark.parametrize("stream", [False, True])
async def test_the_provider_gets_the_body_the_model_and_the_credential(
    adapter: OpenAIAdapter, simulator: ProviderSimulator, stream: bool
) -> None:
    asked = call("sim-ok@sent", temperature=0.5, model="gpt-4o", stream=not stream)
    if stream:
        await collect(adapter, asked, [])
    else:
        asked = call("sim-ok@sent", temperature=0.5, model="gpt-4o")
        await adapter.complete(asked, KEY)

    record = simulator.requests("sim-ok@sent")[-1]
    assert record.body is not None
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    assert json.loads(record.body) == {**asked.body, "model": "sim-ok@sent", **options}
    assert record.path == "/v1/chat/completions"
    assert record.credential == credential_digest(KEY)
    assert set(record.header_names) <= {
        "host", "authorization", "content-type", "content-length", "accept", "accept-encoding", "user-agent",
    }  # fmt: skip


# --- every fault


@pytest.mark.parametrize("fault", EXPECTED)
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_a_fault_becomes_one_of_our_errors(
    session: aiohttp.ClientSession, simulator: ProviderSimulator, fault: str, stream: bool
) -> None:
    expected = EXPECTED[fault]
    adapter = make(session, simulator.refused_url if fault == "refused" else simulator.base_url)
    kind = expected.stream if stream else expected.json
    chunks: list[ChatChunk] = []
    asked = call(expected.model, "Hello, world")
    before = simulator.count(expected.model)

    async def run() -> None:
        if stream:
            await collect(adapter, asked, chunks)
        else:
            await adapter.complete(asked, KEY)

    if kind is None:
        await run()
    else:
        with pytest.raises(PlatformError) as caught:
            await run()
        assert type(caught.value) is kind
        assert caught.value.retry_after == expected.retry_after
        told = " ".join([caught.value.message, *(caught.value.details or ())])
        assert KEY[:8] not in told
        assert simulator.base_url not in told
        assert bool(chunks) == (stream and expected.after_deltas)
    assert simulator.count(expected.model) - before == (fault != "refused")


async def test_a_good_stream_may_end_without_done(session: aiohttp.ClientSession) -> None:
    """Some servers send no [DONE]; a finish_reason says as much."""
    chunk = b'data: {"id": "a", "choices": [{"delta": {"content": "x"}, "finish_reason": %b}]}\n\n'
    async with _canned(b"text/event-stream", chunk % b"null", chunk % b'"stop"') as url:
        chunks: list[ChatChunk] = []
        await collect(make(session, url), call(), chunks)
        assert len(chunks) == 2
    async with _canned(b"text/event-stream", chunk % b"null") as url:
        with pytest.raises(ProviderBadResponse):
            await collect(make(session, url), call(), [])


@pytest.mark.parametrize(
    "events",
    [
        b"data: [DONE]\n\n",
        b'data: {"choices": []}\n\ndata: [DONE]\n\n',
        b": comment\n\n",
        b"data: 1\n\n",
        b"data: []\n\n",
        b"",
    ],
    ids=["DONE alone", "no choice", "a comment", "a number", "a list", "nothing"],
)
async def test_a_stream_without_an_answer(session: aiohttp.ClientSession, events: bytes) -> None:
    """ChatAdapter.stream promises to end normally only after a complete answer."""
    async with _canned(b"text/event-stream", events) as url:
        with pytest.raises(ProviderBadResponse):
            await collect(make(session, url), call(), [])


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"1", b'{"choices": []}', b'{"choices": [{}]}', b'{"choices": [null]}', b'{"choices": 1}'],
)
async def test_json_that_is_no_completion(session: aiohttp.ClientSession, body: bytes) -> None:
    async with _canned(b"application/json", body) as url:
        with pytest.raises(ProviderBadResponse):
            await make(session, url).complete(call(), KEY)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_an_answer_that_is_no_http(session: aiohttp.ClientSession, stream: bool) -> None:
    async with _server(b"SSH-2.0-OpenSSH_9.6\r\n") as url:
        adapter = make(session, url)
        with pytest.raises(ProviderBadResponse):
            await (collect(adapter, call(), []) if stream else adapter.complete(call(), KEY))


async def test_the_whole_answer_has_a_deadline(session: aiohttp.ClientSession, simulator: ProviderSimulator) -> None:
    """Every piece comes in time, but there are too many of them."""
    adapter = make(session, simulator.base_url, first_byte=5, total=0.5)
    for run in (adapter.complete(call("sim-slow-stream-100", "tokens:50"), KEY),
                collect(adapter, call("sim-slow-stream-100", "tokens:50"), [])):  # fmt: skip
        started = time.monotonic()
        with pytest.raises(ProviderTimeout):
            await run
        assert 0.4 < time.monotonic() - started < 0.9


# --- connections


async def test_connections_are_reused_after_good_answers(adapter: OpenAIAdapter, connections: Connections) -> None:
    for _ in range(3):
        await adapter.complete(call(), KEY)
        await collect(adapter, call(), [])
    assert connections.made == 1


async def test_connections_are_reused_after_error_answers(adapter: OpenAIAdapter, connections: Connections) -> None:
    for _ in range(3):
        with pytest.raises(PlatformError):
            await adapter.complete(call("sim-server-error"), KEY)
    assert connections.made == 1


@pytest.mark.parametrize(
    ("model", "stream"),
    [
        ("sim-hang@cancel", False), ("sim-stream-hang@cancel", False), ("sim-hang@cancel", True),
        ("sim-slow-first-token@cancel", True), ("sim-stream-hang@cancel", True), ("sim-slow-stream@cancel", True),
    ],
)  # fmt: skip
async def test_cancelling_closes_the_upstream_at_once(
    session: aiohttp.ClientSession, simulator: ProviderSimulator, model: str, stream: bool
) -> None:
    simulator.reset()
    adapter = make(session, simulator.base_url, first_byte=5)
    chunks: list[ChatChunk] = []
    work = collect(adapter, call(model), chunks) if stream else adapter.complete(call(model), KEY)
    task: asyncio.Task[object] = asyncio.ensure_future(work)
    await simulator.wait_for_outcome(model, "open")
    if stream and model.startswith(("sim-stream-hang", "sim-slow-stream")):
        await until(lambda: bool(chunks))

    cancelled_at = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    record = await simulator.wait_for_outcome(model, "client_closed")
    assert record.ended is not None
    assert record.ended - cancelled_at < 0.1


async def test_closing_the_generator_closes_the_upstream_at_once(
    adapter: OpenAIAdapter, simulator: ProviderSimulator
) -> None:
    chunks = adapter.stream(call("sim-slow-stream@close"), KEY)
    await anext(chunks)
    closed_at = time.monotonic()
    await chunks.aclose()
    record = await simulator.wait_for_outcome("sim-slow-stream@close", "client_closed")
    assert record.ended is not None
    assert record.ended - closed_at < 0.1


# --- servers that answer what no simulator would


class _server:  # noqa: N801 - used like a function
    """A server that answers every connection with these bytes and closes it."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    async def __aenter__(self) -> str:
        self._running = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._running.sockets[0].getsockname()[1]}/v1"

    async def __aexit__(self, *_: object) -> None:
        self._running.close()
        await self._running.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        writer.write(self._answer)
        await writer.drain()
        writer.close()


def _canned(content_type: bytes, *parts: bytes) -> _server:
    body = b"".join(parts)
    return _server(
        b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (content_type, len(body), body)
    )


async def test_openai_reads_what_the_adapter_gives(adapter: OpenAIAdapter) -> None:
    """The package's own types, so that a change of the wire format shows here (docs/adr/0003)."""
    completion = await adapter.complete(call(), KEY)
    parsed = ChatCompletion.model_validate_json(completion.raw)
    assert parsed.choices[0].message.content == completion.message["content"]
    assert parsed.usage is not None
    assert completion.usage is not None
    assert parsed.usage.total_tokens == completion.usage.total_tokens

    chunks = [chunk async for chunk in adapter.stream(call(), KEY)]
    read = [ChatCompletionChunk.model_validate_json(chunk.raw) for chunk in chunks]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in read if chunk.choices)
    assert text == completion.message["content"]
