"""The official `openai` package for Python, as its own documentation uses it, with nothing but base URL and key changed.

What every provider can do runs against each wire format; `sim-ok` stands for a model under the provider's own name.
"""

import asyncio
import base64
import time
from array import array
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

from apps.provider_simulator.server import ProviderSimulator
from tests.clients.conftest import ALIAS, AZURE, BURST, CLAUDE, EMBEDDING, SCOPES
from tests.clients.test_wire import PIXEL
from tests.conftest import Platform
from tests.support.gateway import Gateway

OPENAI_FORMAT = ("sim-ok", ALIAS, AZURE)
EVERY_FORMAT = (*OPENAI_FORMAT, CLAUDE)
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello there"}]


class Weather(BaseModel):
    """What the weather is."""

    city: str
    unit: Literal["C", "F"]


class Clock(BaseModel):
    """What the time is."""

    zone: str


class Recipe(BaseModel):
    """A structured answer."""

    title: str
    steps: list[str]
    minutes: int


@pytest.fixture
async def client(served: Gateway, api_key: str) -> AsyncIterator[AsyncOpenAI]:
    """The asynchronous client."""
    async with AsyncOpenAI(base_url=f"{served.base_url}/v1", api_key=api_key, max_retries=0, timeout=10) as official:
        yield official


def says(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


# --- answers


@pytest.mark.parametrize("model", EVERY_FORMAT)
async def test_a_chat(client: AsyncOpenAI, model: str) -> None:
    answer = await client.chat.completions.create(
        model=model, messages=[{"role": "system", "content": "Be brief."}, *HELLO], temperature=0.2, max_tokens=50
    )
    assert answer.model == model
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.content == "You said: Hello there"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


@pytest.mark.parametrize("model", EVERY_FORMAT)
async def test_a_stream(client: AsyncOpenAI, model: str) -> None:
    stream = await client.chat.completions.create(model=model, messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]
    assert {chunk.model for chunk in chunks} == {model}
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "You said: Hello there"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert all(chunk.usage is None for chunk in chunks)


@pytest.mark.parametrize("model", EVERY_FORMAT)
async def test_a_stream_that_counts_its_tokens(client: AsyncOpenAI, model: str) -> None:
    stream = await client.chat.completions.create(
        model=model, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = [chunk async for chunk in stream]
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 6


@pytest.mark.parametrize("model", EVERY_FORMAT)
async def test_the_stream_helper(client: AsyncOpenAI, model: str) -> None:
    async with client.chat.completions.stream(model=model, messages=HELLO) as stream:
        deltas = [event.delta async for event in stream if event.type == "content.delta"]
        final = await stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content == "You said: Hello there"


@pytest.mark.parametrize("model", EVERY_FORMAT)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_loop_of_tools(client: AsyncOpenAI, model: str, stream: bool) -> None:
    """Two calls at once, whose arguments the client parses, and the answer to their results."""
    tools = [openai.pydantic_function_tool(Weather), openai.pydantic_function_tool(Clock)]
    messages = says("call:Weather,Clock")
    turns = 0
    while True:
        turns += 1
        if stream:
            async with client.chat.completions.stream(model=model, messages=messages, tools=tools) as events:
                done = await events.get_final_completion()
        else:
            done = await client.chat.completions.parse(model=model, messages=messages, tools=tools)
        message = done.choices[0].message
        messages.append(message)  # type: ignore[arg-type]  # as the client's documentation does
        if not message.tool_calls:
            break
        assert done.choices[0].finish_reason == "tool_calls"
        parsed = [call.function.parsed_arguments for call in message.tool_calls]
        assert [type(each) for each in parsed] == [Weather, Clock]
        messages += [
            {"role": "tool", "tool_call_id": call.id, "content": f"{call.function.name} is fine"}
            for call in message.tool_calls
        ]
    assert turns == 2
    assert message.content == "The tool said: Clock is fine"


@pytest.mark.parametrize("model", EVERY_FORMAT)
async def test_structured_outputs(client: AsyncOpenAI, model: str) -> None:
    done = await client.chat.completions.parse(model=model, messages=says("An omelette"), response_format=Recipe)
    assert isinstance(done.choices[0].message.parsed, Recipe)
    async with client.chat.completions.stream(model=model, messages=HELLO, response_format=Recipe) as stream:
        final = await stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Recipe)


@pytest.mark.parametrize("model", EVERY_FORMAT)
async def test_pictures_and_a_stop(client: AsyncOpenAI, model: str) -> None:
    answer = await client.chat.completions.create(
        model=model,
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this END"},
                    {"type": "image_url", "image_url": {"url": PIXEL}},
                ],
            }
        ],
        stop=["END"],
    )
    assert answer.choices[0].message.content == "You said: What is this "


@pytest.mark.parametrize("model", OPENAI_FORMAT)
async def test_what_only_openai_has(client: AsyncOpenAI, model: str) -> None:
    ask: dict[str, Any] = {"model": model, "messages": HELLO, "n": 2, "seed": 7, "logprobs": True, "top_logprobs": 1}
    answer = await client.chat.completions.create(**ask)
    assert [choice.message.content for choice in answer.choices] == [
        "You said: Hello there",
        "You said: Hello there [2]",
    ]
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.content is not None
    assert answer.choices[0].logprobs.content[0].logprob == -0.5
    assert (await client.chat.completions.create(**ask)).id == answer.id  # the seed


async def test_what_a_provider_cannot_do_is_said_by_field(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model=CLAUDE, messages=HELLO, n=2)
    assert caught.value.param == "n"
    assert caught.value.code == "provider_rejected_request"


async def test_fields_that_the_client_does_not_know(client: AsyncOpenAI, simulator: ProviderSimulator) -> None:
    await client.chat.completions.create(model="sim-ok", messages=HELLO, extra_body={"brand_new": [1.0, None]})
    body = simulator.requests("sim-ok")[-1].body
    assert body is not None
    assert b'"brand_new":[1.0,null]' in body


@pytest.mark.parametrize("model", [EMBEDDING, "text-embedding-3-small"])
async def test_embeddings(client: AsyncOpenAI, model: str) -> None:
    """The client asks for base64 by itself and decodes it."""
    decoded = await client.embeddings.create(model=model, input=["Hello", "there"], dimensions=8)
    plain = await client.embeddings.create(
        model=model, input=["Hello", "there"], dimensions=8, encoding_format="float"
    )
    raw = await client.embeddings.create(model=model, input="Hello", dimensions=8, encoding_format="base64")
    assert decoded.model == plain.model == model
    assert [item.embedding for item in decoded.data] == [pytest.approx(item.embedding) for item in plain.data]
    assert isinstance(raw.data[0].embedding, str)
    assert list(array("f", base64.b64decode(raw.data[0].embedding))) == pytest.approx(plain.data[0].embedding)
    assert decoded.usage.total_tokens == 4


async def test_models(client: AsyncOpenAI, house: Platform) -> None:
    names = [model.id async for model in client.models.list()]
    assert {ALIAS, AZURE, CLAUDE, EMBEDDING} <= set(names)
    assert (await client.models.retrieve(CLAUDE)).owned_by == "anthropic"
    few = client.with_options(api_key=house.key(*SCOPES, models=[ALIAS]))
    assert [model.id async for model in few.models.list()] == [ALIAS]
    with pytest.raises(openai.NotFoundError):
        await few.models.retrieve(CLAUDE)


# --- headers


async def test_raw_responses_tell_who_answered(client: AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model=CLAUDE, messages=HELLO, extra_headers={"X-Request-ID": "order-4711"}
    )
    assert raw.headers["x-request-id"] == raw.request_id == raw.parse()._request_id == "order-4711"
    assert raw.headers["x-platform-provider"] == "anthropic"
    assert raw.headers["x-platform-model"] == "sim-ok"
    assert raw.headers["x-platform-attempts"] == "1"
    assert int(raw.headers["x-ratelimit-remaining-requests"]) > 0
    async with client.chat.completions.with_streaming_response.create(
        model=AZURE, messages=HELLO, stream=True
    ) as response:
        assert response.headers["x-platform-provider"] == "azure"
        lines = [line async for line in response.iter_lines()]
    assert [line for line in lines if line][-1] == "data: [DONE]"


# --- errors


async def test_a_key_that_is_none(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        await client.with_options(api_key="sk-wrong").chat.completions.create(model="sim-ok", messages=HELLO)
    assert caught.value.code == "invalid_api_key"
    assert caught.value.request_id


async def test_a_key_that_may_not(client: AsyncOpenAI, house: Platform) -> None:
    chat_only = client.with_options(api_key=house.key("platform:chat", models=["gpt-4o"]))
    for refused in (
        chat_only.chat.completions.create(model="sim-ok", messages=HELLO),
        chat_only.embeddings.create(model=EMBEDDING, input="Hello"),
    ):
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await refused
        assert caught.value.type == "permission_error"


ERRORS = {
    "gpt-9": (openai.NotFoundError, "model_not_found"),
    "sim-context-length": (openai.BadRequestError, "context_length_exceeded"),
    "sim-content-filter": (openai.BadRequestError, "content_filtered"),
    "sim-bad-request": (openai.BadRequestError, "provider_rejected_request"),
    "sim-unauthorized": (openai.InternalServerError, "provider_auth_failed"),
    "sim-server-error": (openai.InternalServerError, "provider_error"),
    "sim-overloaded": (openai.InternalServerError, "provider_unavailable"),
    "sim-rate-limited": (openai.InternalServerError, "provider_rate_limited"),
    "sim-quota": (openai.InternalServerError, "provider_quota_exhausted"),
    "sim-hang": (openai.InternalServerError, "provider_timeout"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ERRORS)
async def test_an_error_is_the_clients_own(client: AsyncOpenAI, model: str, stream: bool) -> None:
    kind, code = ERRORS[model]
    with pytest.raises(openai.APIStatusError) as caught:
        await client.chat.completions.create(model=model, messages=HELLO, stream=stream)
    assert type(caught.value) is kind
    assert caught.value.code == code
    assert isinstance(caught.value.body, dict)


async def test_a_wrong_field_is_named(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="sim-ok", messages=[])
    assert (caught.value.param, caught.value.type) == ("messages", "invalid_request_error")


@pytest.mark.parametrize("model", ["sim-stream-drop", "sim-stream-error", "sim-stream-truncated", "sim-stream-hang"])
async def test_a_stream_that_dies_raises_after_what_came(client: AsyncOpenAI, model: str) -> None:
    stream = await client.chat.completions.create(model=model, messages=HELLO, stream=True)
    got = []
    with pytest.raises(openai.APIError) as caught:
        async for chunk in stream:
            got.append(chunk.choices[0].delta.content)  # noqa: PERF401 - what came before the error counts
    assert "".join(part or "" for part in got).startswith("You ")
    assert caught.value.code in ("provider_bad_response", "provider_error", "provider_timeout")


async def test_a_client_that_waits_no_longer(client: AsyncOpenAI, simulator: ProviderSimulator) -> None:
    with pytest.raises(openai.APITimeoutError):
        await client.with_options(timeout=0.3).chat.completions.create(model="sim-delay", messages=HELLO)
    await simulator.wait_for_outcome("sim-delay", "client_closed")


# --- retries


async def test_a_client_that_is_limited_waits_as_told_and_goes_on(client: AsyncOpenAI, house: Platform) -> None:
    limited = client.with_options(api_key=house.key(*SCOPES, limits={BURST: 1}))
    await limited.chat.completions.create(model="sim-ok", messages=HELLO)
    with pytest.raises(openai.RateLimitError) as caught:
        await limited.chat.completions.create(model="sim-ok", messages=HELLO)
    told = int(caught.value.response.headers["retry-after"])
    assert (caught.value.code, caught.value.type) == ("rate_limited", "rate_limit_error")
    began = time.monotonic()
    raw = await limited.with_options(max_retries=1).chat.completions.with_raw_response.create(
        model="sim-ok", messages=HELLO
    )
    assert raw.retries_taken == 1
    assert 0.5 < time.monotonic() - began < told + 1


async def test_a_client_that_retries_an_outage(client: AsyncOpenAI, simulator: ProviderSimulator) -> None:
    name = {"x-request-id": "outage"}
    raw = await client.with_options(max_retries=3).chat.completions.with_raw_response.create(
        model="sim-flaky", messages=HELLO, user="outage", extra_headers=name
    )
    assert raw.retries_taken == 2
    assert raw.parse().choices[0].message.content == "You said: Hello there"


# --- the synchronous client


@pytest.fixture
def blocking(served: Gateway, api_key: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{served.base_url}/v1", api_key=api_key, max_retries=0, timeout=10) as official:
        yield official


async def test_the_synchronous_client(blocking: OpenAI) -> None:
    """The same wire beneath, so each of its ways once; in a thread, for the simulator answers on this loop."""

    def scenario() -> None:
        for model in EVERY_FORMAT:
            answer = blocking.chat.completions.create(model=model, messages=HELLO)
            assert answer.choices[0].message.content == "You said: Hello there"
            stream = blocking.chat.completions.create(model=model, messages=HELLO, stream=True)
            parts = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
            assert "".join(parts) == "You said: Hello there"
            parsed = blocking.chat.completions.parse(model=model, messages=HELLO, response_format=Recipe)
            assert isinstance(parsed.choices[0].message.parsed, Recipe)
            with blocking.chat.completions.stream(model=model, messages=HELLO) as events:
                assert events.get_final_completion().choices[0].finish_reason == "stop"
        assert len(blocking.embeddings.create(model=EMBEDDING, input="Hello").data[0].embedding) == 1536
        assert ALIAS in [model.id for model in blocking.models.list()]
        with pytest.raises(openai.NotFoundError):
            blocking.chat.completions.create(model="gpt-9", messages=HELLO)

    await asyncio.to_thread(scenario)
