"""The provider simulator over real sockets: its good path, every fault, its counting, and its process."""

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import struct
import sys
import time
from array import array
from collections.abc import AsyncIterable, AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import httpx
import openai
import orjson
import pytest

from apps.provider_simulator.catalog import FAULTS, MODELS
from apps.provider_simulator.record import KEPT_BODIES, KEPT_BODY_BYTES, KEPT_RECORDS, credential_digest
from apps.provider_simulator.server import ProviderSimulator

T = TypeVar("T")
KEY = "sk-simulated-0123456789abcdef"
AUTH = {"Authorization": f"Bearer {KEY}"}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 3}},
            "required": ["city", "days"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}


@pytest.fixture
async def sim() -> AsyncIterator[ProviderSimulator]:
    async with ProviderSimulator() as simulator:
        yield simulator


@pytest.fixture
async def client(sim: ProviderSimulator) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=sim.base_url, headers=AUTH, timeout=5) as http:
        yield http


@pytest.fixture
async def sdk(sim: ProviderSimulator) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=sim.base_url, api_key=KEY, max_retries=0, timeout=5) as official:
        yield official


def chat(model: str = "sim-ok", text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


async def ask(client: httpx.AsyncClient, model: str = "sim-ok", text: str = "hello", **fields: Any) -> httpx.Response:
    return await client.post("/chat/completions", json=chat(model, text, **fields))


def data_lines(body: str) -> list[str]:
    """The data of every complete server-sent event."""
    return [event.removeprefix("data: ") for event in body.split("\n\n")[:-1]]


async def collect(parts: AsyncIterable[T], into: list[T]) -> None:
    """Keeps what arrived although reading on fails."""
    async for part in parts:
        into.append(part)  # noqa: PERF401 - what a comprehension gathered would be lost when reading fails


# --- good path, through the official client


async def test_official_client_gets_a_completion(sdk: openai.AsyncOpenAI) -> None:
    done = await sdk.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}], seed=7, logprobs=True
    )
    assert done.id.startswith("chatcmpl-")
    assert (done.object, done.model, done.system_fingerprint) == ("chat.completion", "gpt-4o-mini", "fp_simulator")
    choice = done.choices[0]
    assert (choice.message.role, choice.message.content) == ("assistant", "You said: hello")
    assert (choice.message.refusal, choice.finish_reason) == (None, "stop")
    assert choice.logprobs is not None
    assert "".join(token.token for token in choice.logprobs.content or []) == "You said: hello"
    assert done.usage is not None
    assert (done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.total_tokens) == (2, 4, 6)
    assert done.usage.prompt_tokens_details is not None
    assert done.usage.prompt_tokens_details.cached_tokens == 0


async def test_official_client_streams(sdk: openai.AsyncOpenAI) -> None:
    stream = await sdk.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "You said: hello"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-2:] == [None, "stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 4


async def test_stream_ends_with_done_and_carries_usage_only_when_asked(client: httpx.AsyncClient) -> None:
    response = await ask(client, stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = data_lines(response.text)
    assert lines[-1] == "[DONE]"
    assert not any("usage" in orjson.loads(line) for line in lines[:-1])


@pytest.mark.parametrize("tool_choice", ["required", {"type": "function", "function": {"name": "weather"}}])
async def test_tool_choice_forces_a_call(client: httpx.AsyncClient, tool_choice: Any) -> None:
    body = (await ask(client, tools=[WEATHER, CLOCK], tool_choice=tool_choice)).json()
    (choice,) = body["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert (call["type"], call["function"]["name"]) == ("function", "weather")
    assert json.loads(call["function"]["arguments"]) == {"city": "text", "days": 3}


async def test_parallel_tool_calls_stream_as_deltas(client: httpx.AsyncClient) -> None:
    response = await ask(client, text="call:weather,clock please", tools=[WEATHER, CLOCK], stream=True)
    chunks = [orjson.loads(line) for line in data_lines(response.text)[:-1]]
    calls: dict[int, dict[str, str]] = {}
    for chunk in chunks:
        for delta in chunk["choices"][0]["delta"].get("tool_calls", []):
            call = calls.setdefault(delta["index"], {"arguments": ""})
            call["arguments"] += delta["function"]["arguments"]
            call.update({k: v for k, v in delta["function"].items() if k == "name"})
    assert [call["name"] for call in calls.values()] == ["weather", "clock"]
    assert json.loads(calls[0]["arguments"]) == {"city": "text", "days": 3}
    assert json.loads(calls[1]["arguments"]) == {}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_official_client_runs_a_tool_loop_to_its_end(sdk: openai.AsyncOpenAI) -> None:
    first = await sdk.chat.completions.create(
        model="sim-ok",
        messages=[{"role": "user", "content": "call:clock"}],
        tools=[{"type": "function", "function": {"name": "clock"}}],
    )
    calls = first.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].type == "function"
    second = await sdk.chat.completions.create(
        model="sim-ok",
        messages=[
            {"role": "user", "content": "call:clock"},
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": calls[0].id,
                        "type": "function",
                        "function": {"name": calls[0].function.name, "arguments": calls[0].function.arguments},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": calls[0].id, "content": "noon"},
        ],
        tools=[{"type": "function", "function": {"name": "clock"}}],
    )
    assert second.choices[0].message.content == "The tool said: noon"


async def test_call_needs_tools_and_obeys_none(client: httpx.AsyncClient) -> None:
    without: tuple[dict[str, Any], ...] = ({}, {"tools": [CLOCK], "tool_choice": "none"})
    for fields in without:
        body = (await ask(client, text="call:clock", **fields)).json()
        assert body["choices"][0]["message"]["content"] == "You said: call:clock"


@pytest.mark.parametrize(
    ("fields", "text", "reason"),
    [
        ({"max_tokens": 2}, "You said", "length"),
        ({"max_completion_tokens": 2}, "You said", "length"),
        ({"stop": "said"}, "You ", "stop"),
        ({"stop": ["never", ": "]}, "You said", "stop"),
        ({"response_format": {"type": "json_object"}}, '{"answer":"You said: hello"}', "stop"),
    ],
)
async def test_fields_shape_the_text(client: httpx.AsyncClient, fields: dict[str, Any], text: str, reason: str) -> None:
    (choice,) = (await ask(client, **fields)).json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (text, reason)


async def test_content_parts_filler_choices_and_cached_tokens(client: httpx.AsyncClient) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    body = (await ask(client, messages=[{"role": "user", "content": parts}], n=2)).json()
    assert [c["message"]["content"] for c in body["choices"]] == ["You said: a", "You said: a [2]"]
    body = (await ask(client, text="tokens:50", prompt_cache_key="k")).json()
    assert body["usage"]["completion_tokens"] == 50
    assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == body["usage"]["prompt_tokens"] // 2 > 0


async def test_structured_output_conforms_to_its_schema(client: httpx.AsyncClient) -> None:
    schema = WEATHER["function"]["parameters"]
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema, "strict": True}}
    body = (await ask(client, response_format=wanted)).json()
    assert json.loads(body["choices"][0]["message"]["content"]) == {"city": "You said: hello", "days": 3}


async def test_official_client_gets_embeddings_in_both_encodings(
    sdk: openai.AsyncOpenAI, client: httpx.AsyncClient
) -> None:
    parsed = await sdk.embeddings.create(model="text-embedding-3-small", input=["one", "two", "one"], dimensions=8)
    first, second, third = (item.embedding for item in parsed.data)
    assert first == third != second
    assert len(first) == 8
    assert sum(x * x for x in first) == pytest.approx(1, abs=1e-5)
    assert parsed.usage.prompt_tokens == parsed.usage.total_tokens == 3
    request = {"model": "text-embedding-3-small", "input": "one", "dimensions": 8}
    floats = (await client.post("/embeddings", json={**request, "encoding_format": "float"})).json()
    encoded = (await client.post("/embeddings", json={**request, "encoding_format": "base64"})).json()
    assert floats["data"][0]["embedding"] == pytest.approx(first)
    assert array("f", base64.b64decode(encoded["data"][0]["embedding"])).tolist() == floats["data"][0]["embedding"]
    tokens = (await client.post("/embeddings", json={"model": "m", "input": [[1, 2, 3], [4]]})).json()
    assert tokens["usage"]["total_tokens"] == 4
    assert len(tokens["data"][0]["embedding"]) == 1536


async def test_official_client_lists_models(sdk: openai.AsyncOpenAI) -> None:
    assert tuple([model.id async for model in sdk.models.list()]) == MODELS
    assert (await sdk.models.retrieve("sim-ok")).id == "sim-ok"
    with pytest.raises(openai.NotFoundError):
        await sdk.models.retrieve("nothing")
    assert {f"sim-{name}" for name in FAULTS} <= set(MODELS)


# --- refusals of its own


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer"}, {"Authorization": "Basic abc"}])
async def test_a_key_is_required(sim: ProviderSimulator, headers: dict[str, str]) -> None:
    async with httpx.AsyncClient(base_url=sim.base_url, headers=headers) as http:
        response = await ask(http)
    assert response.status_code == 401
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert not sim.requests("sim-ok")[0].authorized


async def test_only_the_configured_key_is_good_in_either_header() -> None:
    async with ProviderSimulator(api_key=KEY) as sim, httpx.AsyncClient(base_url=sim.base_url) as http:
        for headers, status in ((AUTH, 200), ({"api-key": KEY}, 200), ({"api-key": "other"}, 401)):
            response = await http.post("/chat/completions", json=chat(), headers=headers)
            assert response.status_code == status
        assert response.json()["error"]["code"] == "invalid_api_key"
        assert [r.credential for r in sim.requests()] == [credential_digest(k) for k in (KEY, KEY, "other")]


@pytest.mark.parametrize(
    ("path", "content", "param"),
    [
        ("/chat/completions", b"{", None),
        ("/chat/completions", b'["model"]', None),
        ("/chat/completions", b'{"messages": [{"role": "user", "content": "x"}]}', "model"),
        ("/chat/completions", b'{"model": "m"}', "messages"),
        ("/chat/completions", b'{"model": "m", "messages": []}', "messages"),
        ("/chat/completions", orjson.dumps(chat(max_tokens=0)), "max_tokens"),
        ("/chat/completions", orjson.dumps(chat(n=True)), "n"),
        ("/chat/completions", orjson.dumps(chat(tools=[{}])), "tools"),
        ("/embeddings", b'{"model": "m"}', "input"),
        ("/embeddings", b'{"model": "m", "input": "x", "dimensions": 0}', "dimensions"),
    ],
)
async def test_invalid_bodies_get_openais_400(
    client: httpx.AsyncClient, path: str, content: bytes, param: str | None
) -> None:
    response = await client.post(path, content=content)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)


async def test_unknown_paths_models_and_faults(client: httpx.AsyncClient) -> None:
    assert (await client.get("/nothing")).status_code == 404
    unknown = await ask(client, "sim-explode")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    unknown = await client.post("/chat/completions", json=chat(), headers={"x-sim-fault": "explode"})
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "x-sim-fault")


# --- faults: statuses


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "status", "kind", "code", "error"),
    [
        ("bad-request", 400, "invalid_request_error", "invalid_value", openai.BadRequestError),
        ("context-length", 400, "invalid_request_error", "context_length_exceeded", openai.BadRequestError),
        ("content-filter", 400, "invalid_request_error", "content_filter", openai.BadRequestError),
        ("unauthorized", 401, "invalid_request_error", "invalid_api_key", openai.AuthenticationError),
        ("forbidden", 403, "invalid_request_error", "permission_denied", openai.PermissionDeniedError),
        ("not-found", 404, "invalid_request_error", "model_not_found", openai.NotFoundError),
        ("rate-limited", 429, "requests", "rate_limit_exceeded", openai.RateLimitError),
        ("quota", 429, "insufficient_quota", "insufficient_quota", openai.RateLimitError),
        ("server-error", 500, "server_error", None, openai.InternalServerError),
        ("overloaded", 503, "server_error", "server_is_overloaded", openai.InternalServerError),
    ],
)
async def test_error_statuses_reach_the_official_client(
    sdk: openai.AsyncOpenAI,
    fault: str,
    status: int,
    kind: str,
    code: str | None,
    error: type[openai.APIStatusError],
    stream: bool,
) -> None:
    with pytest.raises(error) as raised:
        await sdk.chat.completions.create(
            model=f"sim-{fault}", messages=[{"role": "user", "content": "x"}], stream=stream
        )
    assert (raised.value.status_code, raised.value.type, raised.value.code) == (status, kind, code)
    assert raised.value.request_id is not None


async def test_details_of_the_error_statuses(client: httpx.AsyncClient) -> None:
    assert (await ask(client, "sim-bad-request")).json()["error"]["param"] == "temperature"
    assert (await ask(client, "sim-rate-limited")).headers["retry-after"] == "1"
    assert (await ask(client, "sim-overloaded-7")).headers["retry-after"] == "7"
    message = (await ask(client, "sim-unauthorized")).json()["error"]["message"]
    assert "sk-simul*****************cdef" in message
    assert KEY not in message
    html = await ask(client, "sim-bad-gateway-html")
    assert (html.status_code, html.headers["content-type"]) == (502, "text/html; charset=utf-8")


async def test_the_header_wins_over_the_model_name(client: httpx.AsyncClient, sim: ProviderSimulator) -> None:
    response = await client.post("/chat/completions", json=chat("sim-quota"), headers={"x-sim-fault": "rate-limited=3"})
    assert response.headers["retry-after"] == "3"
    assert sim.requests("sim-quota")[0].fault == "rate-limited"
    response = await client.get("/models", headers={"x-sim-fault": "server-error"})
    assert response.status_code == 500
    response = await client.post("/embeddings", json={"model": "sim-quota", "input": "x"})
    assert response.status_code == 429


# --- faults: time


async def test_delay_holds_the_headers_back(client: httpx.AsyncClient) -> None:
    started = time.monotonic()
    async with client.stream("POST", "/chat/completions", json=chat("sim-delay-100", stream=True)):
        assert 0.1 <= time.monotonic() - started < 1


async def test_slow_first_token_sends_headers_at_once(client: httpx.AsyncClient) -> None:
    started = time.monotonic()
    body = chat("sim-slow-first-token-300", stream=True)
    async with client.stream("POST", "/chat/completions", json=body) as response:
        assert time.monotonic() - started < 0.25
        text = "".join([part async for part in response.aiter_text()])
    assert time.monotonic() - started >= 0.3
    assert data_lines(text)[-1] == "[DONE]"
    started = time.monotonic()
    assert (await ask(client, "sim-slow-first-token-50")).status_code == 200
    assert time.monotonic() - started >= 0.05


@pytest.mark.parametrize("stream", [False, True])
async def test_slow_stream_pauses_between_parts(client: httpx.AsyncClient, stream: bool) -> None:
    arrivals = []
    text = ""
    body = chat("sim-slow-stream-20", stream=stream)
    async with client.stream("POST", "/chat/completions", json=body) as response:
        async for part in response.aiter_text():
            arrivals.append(time.monotonic())
            text += part
    assert len(arrivals) >= 7
    assert arrivals[-1] - arrivals[0] >= 0.1
    assert data_lines(text)[-1] == "[DONE]" if stream else json.loads(text)["choices"]


# --- faults: broken connections and bodies


@pytest.mark.parametrize("stream", [False, True])
async def test_drop_sends_no_byte(sim: ProviderSimulator, stream: bool) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    writer.write(raw_request(chat("sim-drop", stream=stream)))
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    assert (await sim.wait_for_outcome("sim-drop", "aborted")).ended is not None


@pytest.mark.parametrize("stream", [False, True])
async def test_drop_mid_body_promises_more_than_it_sends(sim: ProviderSimulator, stream: bool) -> None:
    async with aiohttp.ClientSession(headers=AUTH) as http:
        body = chat("sim-drop-mid-body", stream=stream)
        async with http.post(f"{sim.base_url}/chat/completions", json=body) as response:
            assert response.status == 200
            received: list[bytes] = []
            with pytest.raises(aiohttp.ClientPayloadError):
                await collect(response.content.iter_any(), received)
    assert 0 < len(b"".join(received)) < int(response.headers["Content-Length"])
    assert sim.stats()["sim-drop-mid-body"]["aborted"] == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_stream_drop_cuts_inside_a_chunk(client: httpx.AsyncClient, stream: bool) -> None:
    received: list[str] = []
    async with client.stream("POST", "/chat/completions", json=chat("sim-stream-drop-3", stream=stream)) as response:
        with pytest.raises(httpx.RemoteProtocolError):
            await collect(response.aiter_text(), received)
    text = "".join(received)
    if stream:
        assert len(data_lines(text)) == 3
        assert all(orjson.loads(line)["choices"] for line in data_lines(text))
        assert text.split("\n\n")[-1].startswith('data: {"id"')
    else:
        assert text.startswith('{"id"')


@pytest.mark.parametrize("stream", [False, True])
async def test_stream_hang_goes_silent(client: httpx.AsyncClient, sim: ProviderSimulator, stream: bool) -> None:
    received: list[str] = []
    body = chat("sim-stream-hang", stream=stream)
    async with client.stream("POST", "/chat/completions", json=body, timeout=0.15) as response:
        with pytest.raises(httpx.ReadTimeout):
            await collect(response.aiter_text(), received)
    text = "".join(received)
    assert len(data_lines(text)) == 2 if stream else text.startswith('{"id"')
    await sim.wait_for_outcome("sim-stream-hang", "client_closed", 1)


async def test_hang_never_answers(client: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.ReadTimeout):
        await client.post("/chat/completions", json=chat("sim-hang"), timeout=0.1)


async def test_wrong_bodies_of_json_requests(client: httpx.AsyncClient) -> None:
    malformed = await ask(client, "sim-malformed-json")
    assert (malformed.status_code, malformed.headers["content-type"]) == (200, "application/json")
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(malformed.content)
    assert (await ask(client, "sim-wrong-shape")).json() == {"hello": "world"}
    html = await ask(client, "sim-wrong-content-type")
    assert (html.status_code, html.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (await ask(client, "sim-stream-error")).json()["error"]["type"] == "server_error"
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads((await ask(client, "sim-stream-truncated")).content)


async def test_wrong_bodies_of_streams(client: httpx.AsyncClient) -> None:
    malformed, done = data_lines((await ask(client, "sim-malformed-json", stream=True)).text)
    assert done == "[DONE]"
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(malformed)
    shape = data_lines((await ask(client, "sim-wrong-shape", stream=True)).text)
    assert shape == ['{"hello": "world"}', "[DONE]"]
    *good, error = data_lines((await ask(client, "sim-stream-error", stream=True)).text)
    assert len(good) == 2
    assert orjson.loads(error)["error"]["type"] == "server_error"
    truncated = data_lines((await ask(client, "sim-stream-truncated-99", stream=True)).text)
    assert all(orjson.loads(line)["choices"][0]["finish_reason"] is None for line in truncated)
    assert len(truncated) > 2


async def test_flaky_fails_first_and_counts_by_key(client: httpx.AsyncClient) -> None:
    async def statuses(times: int, headers: dict[str, str] | None = None, **fields: Any) -> list[int]:
        answers = [
            await client.post("/chat/completions", json=chat("sim-flaky-2", **fields), headers=headers)
            for _ in range(times)
        ]
        return [answer.status_code for answer in answers]

    assert await statuses(4) == [500, 500, 200, 200]
    assert await statuses(3, user="somebody") == [500, 500, 200]
    assert await statuses(3, headers={"x-sim-key": "one"}) == [500, 500, 200]


async def test_refused_port_refuses_and_cannot_be_taken(sim: ProviderSimulator, client: httpx.AsyncClient) -> None:
    async with httpx.AsyncClient(base_url=sim.refused_url) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get("/models")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", sim.refused_port))
    with pytest.raises(httpx.RemoteProtocolError):
        await ask(client, "sim-refused")


async def test_redirect_counts_only_followers(sim: ProviderSimulator, client: httpx.AsyncClient) -> None:
    assert (await ask(client, "sim-redirect")).status_code == 302
    assert sim.stats()["sim-redirect"]["followed_redirects"] == 0
    followed = await client.post("/chat/completions", json=chat("sim-redirect"), follow_redirects=True)
    assert followed.json() == {"followed": True}
    assert sim.stats()["sim-redirect"]["followed_redirects"] == 1


async def test_a_small_huge_body_ends_as_a_completion(client: httpx.AsyncClient) -> None:
    body = (await ask(client, "sim-huge-body-1")).json()
    assert len(body["choices"][0]["message"]["content"]) == 1024 * 1024
    streamed = data_lines((await ask(client, "sim-huge-body-1", stream=True)).text)
    assert sum(len(orjson.loads(line)["choices"][0]["delta"]["content"]) for line in streamed) >= 1_000_000
    with pytest.raises(httpx.RemoteProtocolError):
        await ask(client, "sim-huge-line-1", stream=True)


# --- a client that leaves


def raw_request(body: dict[str, Any]) -> bytes:
    content = orjson.dumps(body)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: "
    return f"{head}{len(content)}\r\n\r\n".encode() + content


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize(
    ("model", "stream"),
    [
        ("sim-delay-60000", False),
        ("sim-delay-60000", True),
        ("sim-slow-first-token-60000", True),
        ("sim-slow-stream-60000", True),
        ("sim-slow-stream-60000", False),
        ("sim-slow-stream-1", True),
        ("sim-stream-hang", True),
        ("sim-stream-hang", False),
        ("sim-hang", False),
        ("sim-hang", True),
        ("sim-huge-body", False),
        ("sim-huge-body", True),
        ("sim-huge-line", True),
    ],
)
async def test_a_leaving_client_is_noticed_at_once(
    sim: ProviderSimulator, model: str, stream: bool, reset: bool
) -> None:
    connection = socket.create_connection(("127.0.0.1", sim.port))
    connection.sendall(raw_request(chat(model, "tokens:5000", stream=stream)))
    await sim.wait_for_outcome(model, "open")
    # Long enough to be inside the wait, or to have filled the socket that nobody reads.
    await asyncio.sleep(0.03)
    if reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    left = time.monotonic()
    connection.close()
    record = await sim.wait_for_outcome(model, "client_closed", 1)
    assert record.ended is not None
    assert record.ended - left < 0.1
    assert record.closed_after_ms is not None
    assert 30 <= record.closed_after_ms < 500
    assert sim.stats()[model] | {"total": 1} == {
        "total": 1,
        "open": 0,
        "completed": 0,
        "client_closed": 1,
        "aborted": 0,
        "followed_redirects": 0,
    }


async def test_a_client_that_leaves_inside_its_own_request_is_counted(sim: ProviderSimulator) -> None:
    connection = socket.create_connection(("127.0.0.1", sim.port))
    connection.sendall(raw_request(chat())[:-5])
    await asyncio.sleep(0.03)
    connection.close()
    assert (await sim.wait_for_outcome("", "client_closed", 0.1)).body == b""


# --- counting


async def test_records_tell_what_was_asked_but_not_the_key(client: httpx.AsyncClient, sim: ProviderSimulator) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    response = await client.post("/chat/completions", json=chat("a", stream=True), headers={"traceparent": parent})
    (record,) = sim.requests("a")
    assert record.id == response.headers["x-request-id"]
    assert (record.path, record.model, record.fault, record.stream) == ("/v1/chat/completions", "a", "ok", True)
    assert (record.outcome, record.status, record.closed_after_ms) == ("completed", 200, None)
    assert record.ended is not None
    assert record.started <= record.ended <= time.monotonic()
    assert (record.authorized, record.credential, record.traceparent) == (True, credential_digest(KEY), parent)
    assert "authorization" in record.header_names
    assert record.body is not None
    assert orjson.loads(record.body) == chat("a", stream=True)
    assert KEY not in repr(record)


async def test_records_are_bounded_and_counters_are_not(client: httpx.AsyncClient, sim: ProviderSimulator) -> None:
    await ask(client, "big", "x" * (2 * KEPT_BODY_BYTES))
    (big,) = sim.requests("big")
    assert (len(big.body or b""), big.body_truncated) == (KEPT_BODY_BYTES, True)
    for _ in range(KEPT_RECORDS):
        await client.post("/embeddings", content=b'{"model": "many", "input": "x", "dimensions": 1}')
    assert sim.requests("big") == []
    assert (sim.count("big"), sim.count("many"), sim.count("none")) == (1, KEPT_RECORDS, 0)
    records = sim.requests()
    assert len(records) == KEPT_RECORDS
    assert sum(record.body is not None for record in records) == KEPT_BODIES
    assert records[-1].body is not None


async def test_admin_over_http(client: httpx.AsyncClient, sim: ProviderSimulator) -> None:
    await ask(client, "a")
    await ask(client, "b")
    await client.post("/chat/completions", content=b"broken")
    async with httpx.AsyncClient(base_url=sim.admin_url) as admin:
        (record,) = (await admin.get("/requests", params={"model": "a"})).json()
        assert (record["body"], record["outcome"]) == (chat("a"), "completed")
        (last,) = (await admin.get("/requests", params={"tail": 1})).json()
        assert last["body"] == "broken"
        stats = (await admin.get("/stats")).json()
        assert set(stats) == {"a", "b", ""}
        assert stats["b"]["total"] == stats["b"]["completed"] == 1
        assert (await admin.post("/reset")).status_code == 200
        assert (await admin.get("/requests")).json() == []
        assert (await admin.get("/stats")).json() == {}
        assert (await admin.get("/nothing")).status_code == 404


async def test_reset_leaves_requests_in_flight_uncounted(client: httpx.AsyncClient, sim: ProviderSimulator) -> None:
    slow = asyncio.create_task(ask(client, "sim-delay-100"))
    await sim.wait_for_outcome("sim-delay-100", "open")
    sim.reset()
    assert (await slow).status_code == 200
    assert sim.stats() == {}
    with pytest.raises(TimeoutError, match=r"seen: \{\}"):
        await sim.wait_for_outcome("sim-delay-100", "completed", 0.01)


async def test_closing_ends_hanging_requests_as_aborted() -> None:
    async with ProviderSimulator() as sim, httpx.AsyncClient(base_url=sim.base_url, headers=AUTH) as http:
        hanging = asyncio.create_task(ask(http, "sim-hang"))
        await sim.wait_for_outcome("sim-hang", "open")
        started = time.monotonic()
        await sim.aclose()
        assert time.monotonic() - started < 1
        with pytest.raises(httpx.RemoteProtocolError):
            await hanging
        assert sim.requests("sim-hang")[0].outcome == "aborted"


# --- the process


@pytest.fixture
def ready_file(tmp_path: Path) -> Path:
    return tmp_path / "ready.json"


@dataclass(frozen=True)
class Process:
    """A simulator in a process of its own, which listens."""

    handle: asyncio.subprocess.Process
    base_url: str

    @property
    def admin_url(self) -> str:
        return self.base_url.removesuffix("/v1") + "/_sim"


def start(*arguments: str) -> Coroutine[Any, Any, asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    return asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "apps.provider_simulator", *arguments), stdout=pipe, stderr=pipe
    )


def loaded(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture
async def process(ready_file: Path) -> AsyncIterator[Process]:
    handle = await start("--port", "0", "--ready-file", str(ready_file))
    try:
        assert handle.stdout is not None
        line = (await asyncio.wait_for(handle.stdout.readline(), 10)).decode()
        ready = loaded(ready_file)
        assert set(ready) == {"base_url", "refused_url", "pid"}
        assert ready["pid"] == handle.pid
        assert line == f"provider simulator ready at {ready['base_url']}\n"
        yield Process(handle, ready["base_url"])
    finally:
        if handle.returncode is None:
            handle.kill()
        await handle.communicate()


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads resident memory from Linux's /proc")
async def test_process_pours_without_holding(process: Process) -> None:
    pid = process.handle.pid
    async with httpx.AsyncClient(base_url=process.base_url, headers=AUTH) as http:
        await ask(http)
        before = peak = resident_bytes(pid)
        for fault, stream in (("huge-body", False), ("huge-body", True), ("huge-line", True)):
            received = 0
            async with http.stream("POST", "/chat/completions", json=chat(f"sim-{fault}", stream=stream)) as response:
                async for part in response.aiter_raw():
                    received += len(part)
                    peak = max(peak, resident_bytes(pid))
                    if received > 32 * 1024 * 1024:
                        break
    assert peak - before < 8 * 1024 * 1024


@pytest.mark.parametrize("model", ["sim-hang", "sim-delay-60000", "sim-stream-hang", "sim-huge-line"])
async def test_process_notices_a_leaving_client_at_once(process: Process, model: str) -> None:
    """Its event loop is another one than the tests'."""
    url = httpx.URL(process.base_url)
    connection = socket.create_connection((url.host, url.port or 0))
    connection.sendall(raw_request(chat(model, stream=True)))
    await asyncio.sleep(0.1)
    left = time.monotonic()
    connection.close()
    async with httpx.AsyncClient(base_url=process.admin_url) as admin:
        while True:
            (record,) = (await admin.get("/requests")).json()
            if record["outcome"] == "client_closed":
                break
            assert time.monotonic() - left < 1
    # The monotonic clock is one for all processes of a machine.
    assert record["ended"] - left < 0.1


async def test_process_flushes_before_it_drops(process: Process) -> None:
    async with httpx.AsyncClient(base_url=process.base_url, headers=AUTH) as http:
        received: list[str] = []
        async with http.stream("POST", "/chat/completions", json=chat("sim-stream-drop", stream=True)) as response:
            with pytest.raises(httpx.RemoteProtocolError):
                await collect(response.aiter_text(), received)
        assert len(data_lines("".join(received))) == 2
        received.clear()
        async with http.stream("POST", "/chat/completions", json=chat("sim-drop-mid-body")) as response:
            with pytest.raises(httpx.RemoteProtocolError):
                await collect(response.aiter_text(), received)
        assert "".join(received).startswith('{"id"')


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_process_stops_on_a_signal_although_requests_hang(process: Process, number: signal.Signals) -> None:
    async with httpx.AsyncClient(base_url=process.base_url, headers=AUTH) as http:
        hanging = asyncio.create_task(http.post("/chat/completions", json=chat("sim-hang"), timeout=10))
        await asyncio.sleep(0.1)
        started = time.monotonic()
        process.handle.send_signal(number)
        assert await asyncio.wait_for(process.handle.wait(), 5) == 0
        assert time.monotonic() - started < 2
        with pytest.raises(httpx.HTTPError):
            await hanging
    assert process.handle.stderr is not None
    assert await process.handle.stderr.read() == b""


async def test_process_says_in_one_line_that_its_port_is_in_use(sim: ProviderSimulator) -> None:
    refused = await start("--port", str(sim.port))
    out, err = await asyncio.wait_for(refused.communicate(), 10)
    assert (refused.returncode, out) == (2, b"")
    assert err.decode() == f"provider simulator cannot listen on 127.0.0.1:{sim.port}: the port is in use\n"
