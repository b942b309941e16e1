"""POST /v1/platform/chat over real sockets: successful requests."""

import asyncio
import itertools
import json
import re
import time
from typing import Any

import httpx
import pytest
from starlette.types import Message

from apps.platform_api.http import streaming
from apps.platform_api.http.disconnect import ClientDisconnected
from apps.platform_api.http.streaming import EVENT_STREAM, KEEP_ALIVE, ByteStream, StreamHead, event, stream_headers
from apps.provider_simulator.record import credential_digest
from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import PROVIDER_KEY
from tests.support.gateway.http import events_of, parse_events, until
from tests.support.gateway.process import Gateway

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@pytest.fixture
def headers(chat_key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {chat_key}"}


# --- JSON


async def test_json_response_has_every_documented_field(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    response = await client.post(gateway.chat_url, headers=headers, json={"prompt": "Hello", "conversation_id": "c1"})

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert set(answer) == {
        "status", "id", "request_id", "trace_id", "provider", "model", "output", "message", "finish_reason", "usage",
        "conversation_id", "duration_ms",
    }  # fmt: skip
    assert answer["status"] == "ok"
    assert answer["id"].startswith("chatcmpl-sim")
    assert answer["provider"] == "simulator"
    assert answer["model"] == "sim-ok"
    assert answer["output"] == "You said: Hello"
    assert answer["message"]["role"] == "assistant"
    assert answer["message"]["content"] == "You said: Hello"
    assert answer["finish_reason"] == "stop"
    assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6, "cached_tokens": 0}
    assert answer["conversation_id"] == "c1"
    assert answer["request_id"] == response.headers["x-request-id"]
    assert answer["trace_id"] == response.headers["traceparent"].split("-")[1]
    assert 0 < answer["duration_ms"] < 60_000


async def test_messages_reach_the_provider_as_they_are(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str], simulator: ProviderSimulator
) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "1", "name": "counter"},
        {"role": "user", "content": [{"type": "text", "text": "Zwö\u2028☃"}]},
    ]
    options = {
        "temperature": 0.5, "top_p": 1.0, "max_tokens": 100, "stop": ["END"], "seed": 7,
        "response_format": {"type": "text"}, "tools": [WEATHER], "tool_choice": "none",
    }  # fmt: skip

    response = await client.post(
        gateway.chat_url,
        headers={**headers, "X-Sim-Fault": "server-error", "Cookie": "a=b"},
        json={
            "messages": messages, "model": "gpt-4o", "conversation_id": "c-2", "metadata": {"team": "a"}, **options
        },
    )  # fmt: skip

    assert response.status_code == 200
    assert response.json()["output"] == "You said: Zwö\u2028☃"
    assert response.json()["model"] == "gpt-4o"
    seen = simulator.requests("gpt-4o")[-1]
    assert seen.body is not None
    # Nothing but what is meant for the provider: no metadata, no conversation_id.
    assert json.loads(seen.body) == {"model": "gpt-4o", "messages": messages, **options}
    assert seen.credential == credential_digest(PROVIDER_KEY)
    assert "x-sim-fault" not in seen.header_names
    assert "cookie" not in seen.header_names
    assert "x-api-key" not in seen.header_names


async def test_prompt_is_one_user_message_to_the_default_model(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str], simulator: ProviderSimulator
) -> None:
    response = await client.post(gateway.chat_url, headers=headers, json={"prompt": "short"})

    assert response.status_code == 200
    body = simulator.requests("sim-ok")[-1].body
    assert body is not None
    assert json.loads(body) == {"model": "sim-ok", "messages": [{"role": "user", "content": "short"}]}


async def test_tool_calls_are_in_the_message_and_output_is_null(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    response = await client.post(
        gateway.chat_url, headers=headers, json={"prompt": "call: weather", "tools": [WEATHER]}
    )

    answer = response.json()
    assert response.status_code == 200
    assert answer["output"] is None
    assert answer["finish_reason"] == "tool_calls"
    (call,) = answer["message"]["tool_calls"]
    assert (call["type"], call["function"]["name"]) == ("function", "weather")

    # The conversation continues: the response and the tool's result are valid messages.
    history = [
        {"role": "user", "content": "call: weather"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": "sunny"},
    ]
    response = await client.post(gateway.chat_url, headers=headers, json={"messages": history, "tools": [WEATHER]})
    assert response.json()["output"] == "The tool said: sunny"


async def test_response_cut_by_max_tokens_has_its_reason(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    response = await client.post(gateway.chat_url, headers=headers, json={"prompt": "Hello", "max_tokens": 1})
    assert (response.json()["output"], response.json()["finish_reason"]) == ("You ", "length")


# --- identity


@pytest.mark.parametrize("sane", ["a", "3f2a91c0.b-c_d:e", "x" * 128])
async def test_valid_request_id_is_returned(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str], sane: str
) -> None:
    response = await client.post(gateway.chat_url, headers={**headers, "X-Request-ID": sane}, json={"prompt": "Hello"})
    assert response.headers.get_list("x-request-id") == [sane]
    assert response.json()["request_id"] == sane


@pytest.mark.parametrize("odd", [b"", b"x" * 129, b"a b", b'a"b', b"<script>", b"a,b", "ü".encode()])
async def test_any_other_request_id_is_replaced(
    gateway: Gateway, client: httpx.AsyncClient, chat_key: str, odd: bytes
) -> None:
    response = await client.post(
        gateway.chat_url,
        headers=[(b"Authorization", f"Bearer {chat_key}".encode()), (b"X-Request-ID", odd)],
        json={"prompt": "Hello"},
    )
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])
    assert response.json()["request_id"] == response.headers["x-request-id"]


async def test_traceparent_of_the_client_is_continued(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    response = await client.post(
        gateway.chat_url,
        headers={**headers, "traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"},
        json={"prompt": "Hello"},
    )
    version, trace_id, span_id, flags = response.headers["traceparent"].split("-")
    assert (version, trace_id, flags) == ("00", TRACE_ID, "01")
    assert span_id != "00f067aa0ba902b7"
    assert response.json()["trace_id"] == TRACE_ID


@pytest.mark.parametrize(
    "malformed",
    [
        "nonsense",
        f"00-{TRACE_ID.upper()}-00f067aa0ba902b7-01",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"ff-{TRACE_ID}-00f067aa0ba902b7-01",
        f"00-{TRACE_ID}-00f067aa0ba902b7-01-more",
    ],
)
async def test_malformed_traceparent_starts_a_new_trace(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str], malformed: str
) -> None:
    response = await client.post(
        gateway.chat_url, headers={**headers, "traceparent": malformed}, json={"prompt": "Hello"}
    )
    assert response.status_code == 200
    trace_id = response.json()["trace_id"]
    assert re.fullmatch("[0-9a-f]{32}", trace_id)
    assert trace_id not in ("0" * 32, TRACE_ID)


async def test_success_has_both_kinds_of_rate_limit_headers(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    for stream in (False, True):
        response = await client.post(gateway.chat_url, headers=headers, json={"prompt": "Hello", "stream": stream})
        assert response.headers["ratelimit-policy"] == '"key-rpm";q=1000000;w=60'
        state = re.fullmatch(r'"key-rpm";r=(\d+);t=(\d+)', response.headers["ratelimit"])
        assert state is not None
        assert 0 < int(state[1]) < 1_000_000
        assert 0 <= int(state[2]) <= 61
        assert response.headers["x-ratelimit-limit-requests"] == "1000000"
        assert response.headers["x-ratelimit-remaining-requests"] == state[1]
        assert re.fullmatch(r"(\d+m)?[\d.]+m?s", response.headers["x-ratelimit-reset-requests"])
        assert "retry-after" not in response.headers


# --- stream


async def test_stream_equals_the_json_response(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    ask = {"prompt": "Tell me: ☃ \n\n data: x", "conversation_id": "c9"}
    whole = (await client.post(gateway.chat_url, headers=headers, json=ask)).json()

    response = await client.post(gateway.chat_url, headers=headers, json={**ask, "stream": True})

    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "no-cache" in response.headers["cache-control"]
    events = parse_events(response.text)
    assert [e.name for e in events] == ["delta"] * (len(events) - 1) + ["done"]
    assert "".join(e.data.get("content") or "" for e in events) == whole["output"]
    done = events[-1].data
    for same in ("status", "provider", "model", "finish_reason", "usage", "conversation_id"):
        assert done[same] == whole[same], same
    assert done["request_id"] == response.headers["x-request-id"]
    assert done["trace_id"] == response.headers["traceparent"].split("-")[1]
    assert done["id"].startswith("chatcmpl-sim")
    assert done["duration_ms"] > 0


async def test_streamed_tool_calls_add_up(gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    ask = {"prompt": "call: weather", "tools": [WEATHER]}
    whole = (await client.post(gateway.chat_url, headers=headers, json=ask)).json()
    response = await client.post(gateway.chat_url, headers=headers, json={**ask, "stream": True})

    *deltas, done = parse_events(response.text)
    pieces = [piece for e in deltas for piece in e.data.get("tool_calls", [])]
    arguments = "".join(piece["function"]["arguments"] for piece in pieces)
    assert arguments == whole["message"]["tool_calls"][0]["function"]["arguments"]
    assert (done.name, done.data["finish_reason"]) == ("done", "tool_calls")


async def test_deltas_arrive_as_they_come(gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """sim-slow-stream pauses 200 ms between chunks: role, four of text, the end, usage. The role waits for the text."""
    ask = {"prompt": "Hello", "model": "sim-slow-stream", "stream": True}
    arrivals: list[float] = []
    async with client.stream("POST", gateway.chat_url, headers=headers, json=ask) as response:
        async for found in events_of(response.aiter_text()):
            arrivals.append(time.monotonic())
            last = found
    assert last.name == "done"
    assert len(arrivals) == 6
    gaps = [later - earlier for earlier, later in itertools.pairwise(arrivals)]
    assert min(gaps[1:4]) > 0.1, gaps
    assert arrivals[-1] - arrivals[0] > 0.7


# --- EventStream itself, with shorter times than the product's


class Wire:
    """Collects what an ASGI app sends."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.left = asyncio.Event()

    async def send(self, message: Message) -> None:
        self.messages.append(message)

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


def head_to(wire: Wire, seconds: float) -> StreamHead:
    return StreamHead(wire.send, stream_headers(EVENT_STREAM), KEEP_ALIVE, seconds)


async def test_idle_stream_is_kept_alive_by_comments() -> None:
    wire, go_on = Wire(), asyncio.Event()

    async def events() -> Any:
        await go_on.wait()
        yield event("done", {})

    stream = asyncio.create_task(
        ByteStream(event("delta", {"content": "a"}), events(), EVENT_STREAM, head_to(wire, 0.1))(
            {}, wire.receive, wire.send
        )
    )
    await until(lambda: wire.body.count(b": keep-alive\n") >= 2)
    go_on.set()
    await stream

    assert wire.messages[0]["type"] == "http.response.start"
    delta, done = event("delta", {"content": "a"}), event("done", {})
    assert re.fullmatch(re.escape(delta) + rb"(: keep-alive\n){2,}" + re.escape(done), wire.body)
    assert wire.messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    sent = len(wire.messages)
    await asyncio.sleep(0.25)
    assert len(wire.messages) == sent, "a comment came after the end"


async def test_stream_of_frequent_chunks_has_no_comments() -> None:
    wire = Wire()

    async def events() -> Any:
        for _ in range(8):
            await asyncio.sleep(0.06)
            yield event("delta", {})

    stream = ByteStream(event("delta", {}), events(), EVENT_STREAM, head_to(wire, 30))
    await stream({}, wire.receive, wire.send)
    assert wire.body == event("delta", {}) * 9


async def test_disconnect_closes_the_events_at_once() -> None:
    wire, closed = Wire(), asyncio.Event()

    async def events() -> Any:
        try:
            await asyncio.get_running_loop().create_future()
            yield b""
        finally:
            closed.set()

    stream = asyncio.create_task(ByteStream(b"", events(), EVENT_STREAM)({}, wire.receive, wire.send))
    await until(lambda: len(wire.messages) >= 2)
    wire.left.set()
    with pytest.raises(ClientDisconnected):
        await asyncio.wait_for(stream, 300)
    assert closed.is_set()


async def test_client_that_reads_nothing_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its socket is open and full; the end of the stream is not logged as an error."""
    monkeypatch.setattr(streaming, "SEND_TIMEOUT_SECONDS", 0.05)
    wire, closed = Wire(), asyncio.Event()

    async def send(message: Message) -> None:
        if message.get("body"):
            await asyncio.get_running_loop().create_future()

    async def events() -> Any:
        try:
            yield b"never asked for"
        finally:
            closed.set()

    generator = events()
    await anext(generator)
    with pytest.raises(ClientDisconnected):
        await asyncio.wait_for(ByteStream(b"first", generator, EVENT_STREAM)({}, wire.receive, send), 60)
    assert closed.is_set()
