"""The official Python client on asyncio: concurrent requests, and streams that are closed early."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from apps.provider_simulator.server import ProviderSimulator
from tests.support.gateway.process import Gateway
from tests.support.providers.client_models import EMBEDDING, FALLBACK, HELLO, Verdict, Weather, asking


@pytest.fixture
async def sdk(clients_gateway: Gateway, client_key: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """Create a client without retries."""
    async with openai.AsyncOpenAI(
        base_url=f"{clients_gateway.base_url}/v1", api_key=client_key, max_retries=0
    ) as client:
        yield client


async def test_async_tool_loop_ends_with_structured_output(sdk: openai.AsyncOpenAI, wire: str) -> None:
    model = f"{wire}-ok"
    tools = [openai.pydantic_function_tool(Weather)]
    messages = asking("call:Weather")
    async with sdk.chat.completions.stream(model=model, messages=messages, tools=tools) as stream:
        kinds = {event.type async for event in stream}
        called = (await stream.get_final_completion()).choices[0].message
    assert "tool_calls.function.arguments.done" in kinds
    [call] = called.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Weather)
    messages += [
        called.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    told = await sdk.chat.completions.create(model=model, messages=messages, tools=tools)
    assert told.choices[0].message.content == "The tool said: sunny"
    messages += [{"role": "assistant", "content": told.choices[0].message.content}, *asking("sum up")]
    # Anthropic requires the tools of a conversation with calls; a request without them is refused by name.
    end = await sdk.chat.completions.parse(model=model, messages=messages, response_format=Verdict, tools=tools)
    assert end.choices[0].message.parsed == Verdict(text="You said: sum up", sure=True)


async def test_async_stream_has_usage_only_on_request(sdk: openai.AsyncOpenAI, wire: str) -> None:
    for counted in (True, False):
        options: Any = {"stream_options": {"include_usage": True}} if counted else {}
        stream = await sdk.chat.completions.create(model=f"{wire}-ok", messages=HELLO, stream=True, **options)
        chunks = [chunk async for chunk in stream]
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "You said: hello"
        assert [c.usage.total_tokens for c in chunks if c.usage] == ([6] if counted else [])


async def test_concurrent_calls_get_their_own_responses(sdk: openai.AsyncOpenAI, wire: str) -> None:
    async def ask(number: int) -> str | None:
        done = await sdk.chat.completions.create(model=f"{wire}-ok", messages=asking(f"number {number}"))
        return done.choices[0].message.content

    responses = await asyncio.gather(*(ask(number) for number in range(20)))
    assert responses == [f"You said: number {number}" for number in range(20)]


async def test_async_embeddings_and_models_return_data(sdk: openai.AsyncOpenAI) -> None:
    made = await sdk.embeddings.create(model=EMBEDDING, input="a", dimensions=4)
    assert len(made.data[0].embedding) == 4
    assert EMBEDDING in [model.id async for model in sdk.models.list()]


async def test_async_client_raises_its_error_classes(sdk: openai.AsyncOpenAI, wire: str) -> None:
    with pytest.raises(openai.AuthenticationError):
        await sdk.with_options(api_key="fbp_test_x").chat.completions.create(model=f"{wire}-ok", messages=HELLO)
    with pytest.raises(openai.BadRequestError) as raised:
        await sdk.chat.completions.create(model=f"{wire}-context-length", messages=HELLO, stream=True)
    assert raised.value.code == "context_length_exceeded"
    stream = await sdk.chat.completions.create(model=f"{wire}-stream-error", messages=HELLO, stream=True)
    with pytest.raises(openai.APIError) as broken:
        [chunk async for chunk in stream]
    assert broken.value.code == "provider_error"


async def test_unavailable_route_is_skipped(sdk: openai.AsyncOpenAI, provider: ProviderSimulator) -> None:
    before = provider.count("sim-ok@fallback")
    raw = await sdk.chat.completions.with_raw_response.create(model=FALLBACK, messages=HELLO)
    assert raw.status_code == 200
    told = [raw.headers[f"x-platform-{what}"] for what in ("provider", "model", "attempts")]
    assert told == ["azure", "sim-ok@fallback", "2"]
    done = raw.parse()
    assert (done.model, done.choices[0].message.content) == (FALLBACK, "You said: hello")
    streamed = await sdk.chat.completions.with_raw_response.create(model=FALLBACK, messages=HELLO, stream=True)
    assert streamed.headers["x-platform-attempts"] == "2"
    assert [chunk.model async for chunk in streamed.parse()][-1] == FALLBACK
    assert provider.count("sim-ok@fallback") == before + 2
