"""The simulator's Azure and Anthropic sides are what the official clients of both expect."""

import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
from anthropic.types import ToolUseBlock

from apps.provider_simulator.server import ProviderSimulator

KEY = "sk-simulated-0123456789abcdef"
HELLO: Any = [{"role": "user", "content": "hello"}]
WEATHER: Any = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture
async def claude(simulator: ProviderSimulator) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """Anthropic's client, which checks what it reads against its types."""
    async with anthropic.AsyncAnthropic(
        base_url=simulator.anthropic_url, api_key=KEY, max_retries=0, timeout=300, _strict_response_validation=True
    ) as client:
        yield client


@pytest.fixture
async def azure(simulator: ProviderSimulator) -> AsyncIterator[openai.AsyncAzureOpenAI]:
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=simulator.azure_url, api_key=KEY, api_version="2024-10-21", max_retries=0, timeout=60
    ) as client:
        yield client


# --- Anthropic


async def test_anthropics_client_gets_a_message(claude: anthropic.AsyncAnthropic) -> None:
    message = await claude.messages.create(model="sim-ok", max_tokens=100, messages=HELLO)
    assert [block.model_dump()["text"] for block in message.content] == ["You said: hello"]
    assert (message.stop_reason, message.usage.input_tokens, message.usage.output_tokens) == ("end_turn", 2, 4)


async def test_anthropics_own_tools_need_no_schema(claude: anthropic.AsyncAnthropic) -> None:
    message = await claude.messages.create(
        model="sim-ok", max_tokens=50, messages=[{"role": "user", "content": "Hello"}],
        tools=[{"type": "bash_20250124", "name": "bash"}],
    )  # fmt: skip
    assert message.stop_reason == "end_turn"


async def test_anthropics_client_streams(claude: anthropic.AsyncAnthropic) -> None:
    async with claude.messages.stream(model="sim-ok", max_tokens=100, messages=HELLO) as stream:
        assert "".join([text async for text in stream.text_stream]) == "You said: hello"
        message = await stream.get_final_message()
    assert (message.stop_reason, message.usage.input_tokens, message.usage.output_tokens) == ("end_turn", 2, 4)


async def test_anthropics_client_streams_thinking_and_calls(claude: anthropic.AsyncAnthropic) -> None:
    async with claude.messages.stream(
        model="sim-ok",
        max_tokens=100,
        messages=[{"role": "user", "content": "call: weather"}],
        tools=[WEATHER],
        thinking={"type": "adaptive"},
    ) as stream:
        message = await stream.get_final_message()
    thinking, call = message.content
    assert thinking.type == "thinking"
    assert thinking.signature
    assert isinstance(call, ToolUseBlock)
    assert (call.name, call.input, message.stop_reason) == ("weather", {"city": "text"}, "tool_use")
    result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    done = await claude.messages.create(
        model="sim-ok",
        max_tokens=100,
        messages=[
            {"role": "user", "content": "call: weather"},
            message.to_param(),
            {"role": "user", "content": [result]},
        ],
        tools=[WEATHER],
    )
    assert done.content[0].model_dump()["text"] == "The tool said: sunny"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"max_tokens": 1}, "max_tokens"),
        ({"stop_sequences": ["hel"]}, "stop_sequence"),
        ({"messages": [{"role": "user", "content": "refuse: this"}]}, "refusal"),
        ({"tools": [WEATHER], "tool_choice": {"type": "any"}}, "tool_use"),
    ],
)
@pytest.mark.parametrize("streams", [False, True])
async def test_stop_reasons(
    claude: anthropic.AsyncAnthropic, fields: dict[str, Any], reason: str, streams: bool
) -> None:
    asked: dict[str, Any] = {"model": "sim-ok", "max_tokens": 100, "messages": HELLO, **fields}
    if streams:
        async with claude.messages.stream(**asked) as stream:
            message = await stream.get_final_message()
    else:
        message = await claude.messages.create(**asked)
    assert message.stop_reason == reason


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        ("bad-request", 400, "invalid_request_error"),
        ("context-length", 400, "invalid_request_error"),
        ("quota", 400, "invalid_request_error"),
        ("unauthorized", 401, "authentication_error"),
        ("forbidden", 403, "permission_error"),
        ("not-found", 404, "not_found_error"),
        ("rate-limited", 429, "rate_limit_error"),
        ("server-error", 500, "api_error"),
        ("overloaded", 529, "overloaded_error"),
    ],
)
async def test_error_statuses_reach_anthropics_client(
    claude: anthropic.AsyncAnthropic, fault: str, status: int, kind: str
) -> None:
    with pytest.raises(anthropic.APIStatusError) as raised:
        await claude.messages.create(model=f"sim-{fault}", max_tokens=100, messages=HELLO)
    assert raised.value.status_code == status
    assert raised.value.body == {
        "type": "error",
        "error": {"type": kind, "message": raised.value.body["error"]["message"]},  # type: ignore[index]
    }
    assert raised.value.request_id is not None


async def test_error_in_stream_reaches_anthropics_client(claude: anthropic.AsyncAnthropic) -> None:
    texts = []
    with pytest.raises(anthropic.APIStatusError):  # noqa: PT012 - what came before the error counts
        async with claude.messages.stream(model="sim-stream-error", max_tokens=100, messages=HELLO) as stream:
            async for text in stream.text_stream:
                texts.append(text)  # noqa: PERF401 - what a comprehension gathered would be lost
    assert texts


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"n": 2}, "n: Extra inputs are not permitted"),
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"temperature": 1.5}, "temperature: range: 0..1"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages.0.role: unexpected role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]},
            "messages.0: text content blocks must be non-empty",
        ),
    ],
)
async def test_anthropics_side_is_strict(simulator: ProviderSimulator, fields: dict[str, Any], told: str) -> None:
    body = {"model": "sim-ok", "max_tokens": 5, "messages": HELLO, **fields}
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"{simulator.anthropic_url}/v1/messages", json=body, headers={"x-api-key": KEY})
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, told)


async def test_anthropics_models(simulator: ProviderSimulator) -> None:
    async with anthropic.AsyncAnthropic(base_url=simulator.anthropic_url, api_key=KEY, max_retries=0) as client:
        assert "sim-ok" in [model.id async for model in client.models.list()]


# --- Azure


async def test_azures_client_gets_completions_and_streams(
    azure: openai.AsyncAzureOpenAI, simulator: ProviderSimulator
) -> None:
    done = await azure.chat.completions.create(model="sim-ok@azure", messages=HELLO)
    assert done.choices[0].message.content == "You said: hello"
    assert done.model_dump()["prompt_filter_results"][0]["prompt_index"] == 0
    chunks = [chunk async for chunk in await azure.chat.completions.create(
        model="sim-ok@azure", messages=HELLO, stream=True
    )]  # fmt: skip
    assert chunks[0].choices == []
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[1:]) == "You said: hello"
    assert simulator.count("sim-ok@azure") == 2
    assert simulator.requests("sim-ok@azure")[0].path == "/openai/deployments/sim-ok@azure/chat/completions"


async def test_azures_client_gets_embeddings(azure: openai.AsyncAzureOpenAI) -> None:
    made = await azure.embeddings.create(model="sim-ok", input="a", dimensions=3)
    assert len(made.data[0].embedding) == 3


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("content-filter", 400, "content_filter"),
        ("unauthorized", 401, "401"),
        ("not-found", 404, "DeploymentNotFound"),
        ("rate-limited", 429, "429"),
        ("overloaded", 503, "ServiceUnavailable"),
    ],
)
async def test_error_statuses_reach_azures_client(
    azure: openai.AsyncAzureOpenAI, fault: str, status: int, code: str
) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        await azure.chat.completions.create(model=f"sim-{fault}", messages=HELLO)
    assert (raised.value.status_code, raised.value.code) == (status, code)


async def test_azure_wants_a_version(simulator: ProviderSimulator) -> None:
    url = f"{simulator.azure_url}/openai/deployments/sim-ok/chat/completions"
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(url, json={"messages": HELLO}, headers={"api-key": KEY})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "404")


# --- OpenAI's, beyond the plain text


async def test_seed_equal_requests_get_equal_responses(simulator: ProviderSimulator) -> None:
    async with httpx.AsyncClient(trust_env=False, headers={"Authorization": f"Bearer {KEY}"}) as http:
        url = f"{simulator.base_url}/chat/completions"
        seeded = [(await http.post(url, json={"model": "m", "messages": HELLO, "seed": s})).content for s in (1, 1, 2)]
        plain = [(await http.post(url, json={"model": "m", "messages": HELLO})).json()["id"] for _ in range(2)]
    assert seeded[0] == seeded[1] != seeded[2]
    assert plain[0] != plain[1]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"reasoning_effort": "low"}, "reasoning_content"),
        ({"modalities": ["text", "audio"]}, "audio"),
        ({"messages": [{"role": "user", "content": "refuse: it"}]}, "refusal"),
    ],
)
async def test_messages_have_more_than_text(simulator: ProviderSimulator, fields: dict[str, Any], field: str) -> None:
    async with openai.AsyncOpenAI(base_url=simulator.base_url, api_key=KEY, max_retries=0) as sdk:
        done = await sdk.chat.completions.create(**{"model": "m", "messages": HELLO, **fields})
        assert json.loads(done.to_json())["choices"][0]["message"][field]
