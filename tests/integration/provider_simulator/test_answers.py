"""The simulator's good path, also through the official client, and its refusals."""

import base64
import json
from array import array
from typing import Any

import httpx
import openai
import orjson
import pytest

from apps.provider_simulator.faults.catalog import FAULTS, MODELS
from apps.provider_simulator.record import credential_digest
from apps.provider_simulator.server import ProviderSimulator
from tests.support.providers.simulator_requests import AUTH, KEY, ask, chat, data_lines

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


@pytest.mark.parametrize("tool_choice", [{}, {"tool_choice": "auto"}])
@pytest.mark.parametrize(
    ("text", "called"),
    [
        ("What does the clock say?", ["clock"]), ("weather, and clock.", ["weather", "clock"]),
        ("Clockwork is old.", []), ("Hello", []),
    ],
)  # fmt: skip
async def test_tool_choice_auto_calls_tools_named_in_text(
    client: httpx.AsyncClient, tool_choice: dict[str, Any], text: str, called: list[str]
) -> None:
    body = (await ask(client, text=text, tools=[WEATHER, CLOCK], **tool_choice)).json()
    choice = body["choices"][0]
    assert [call["function"]["name"] for call in choice["message"].get("tool_calls", [])] == called
    assert choice["finish_reason"] == ("tool_calls" if called else "stop")


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


@pytest.mark.parametrize("stream", [False, True])
async def test_custom_tool_is_called_with_text(sdk: openai.AsyncOpenAI, stream: bool) -> None:
    offered: Any = {"type": "custom", "custom": {"name": "patch", "format": {"type": "text"}}}
    fields: dict[str, Any] = {
        "model": "sim-ok",
        "messages": [{"role": "user", "content": "Hello"}],
        "tools": [offered],
        "tool_choice": {"type": "custom", "custom": {"name": "patch"}},
    }
    if not stream:
        (call,) = (await sdk.chat.completions.create(**fields)).choices[0].message.tool_calls or []
        assert call.type == "custom"
        assert (call.custom.name, call.custom.input) == ("patch", "input of patch")
        return
    name = text = ""
    async for chunk in await sdk.chat.completions.create(**fields, stream=True):
        for delta in chunk.choices[0].delta.tool_calls or []:
            custom = (delta.model_extra or {}).get("custom") or {}
            name, text = name or custom.get("name", ""), text + custom.get("input", "")
    assert (name, text) == ("patch", "input of patch")


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


# --- refusals


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer"}, {"Authorization": "Basic abc"}])
async def test_key_is_required(sim: ProviderSimulator, headers: dict[str, str]) -> None:
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
