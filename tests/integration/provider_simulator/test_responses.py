"""The simulator's Responses format, as the official client sees it."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from openai import APIStatusError, AsyncOpenAI, BadRequestError, NotFoundError

from apps.provider_simulator.server import ProviderSimulator
from tests.support.providers.simulator_requests import KEY

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "strict": False,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
PATCH: Any = {"type": "custom", "name": "patch"}
REASONS: Any = {"reasoning": {"effort": "low", "summary": "auto"}, "include": ["reasoning.encrypted_content"]}


@pytest.fixture
async def client(simulator: ProviderSimulator) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=simulator.base_url, api_key=KEY, max_retries=0) as made:
        yield made


@pytest.mark.parametrize("text", ["Hello there", "call: weather,patch", "refuse: no", "tokens: 30"])
async def test_stream_accumulates_to_json(client: AsyncOpenAI, text: str) -> None:
    """The client's accumulator builds the same response as the JSON form, and the events are numbered from 0."""
    asked: Any = {"model": "gpt-4o", "input": text, "tools": [WEATHER, PATCH], **REASONS}
    whole = await client.responses.create(**asked)
    async with client.responses.stream(**asked) as events:
        numbers = [event.sequence_number async for event in events]
        streamed = await events.get_final_response()
    assert numbers == list(range(len(numbers)))
    assert [item.type for item in whole.output] == [item.type for item in streamed.output]
    assert (whole.status, whole.output_text, whole.usage) == (streamed.status, streamed.output_text, streamed.usage)


async def test_output_limit_ends_with_incomplete(client: AsyncOpenAI) -> None:
    asked: Any = {"model": "gpt-4o", "input": "tokens: 30", "max_output_tokens": 20}
    last = [event async for event in await client.responses.create(stream=True, **asked)][-1]
    assert last.type == "response.incomplete"
    whole = await client.responses.create(**asked)
    assert (whole.status, whole.incomplete_details) == ("incomplete", last.response.incomplete_details)


async def test_stored_response_continues_and_is_deleted(client: AsyncOpenAI) -> None:
    first = await client.responses.create(model="gpt-4o", input="Hello")
    second = await client.responses.create(model="gpt-4o", input="And?", previous_response_id=first.id)
    assert (first.usage, second.usage) != (None, None)
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens
    assert (await client.responses.retrieve(first.id)).output_text == "You said: Hello"
    await client.responses.delete(first.id)
    with pytest.raises(NotFoundError):
        await client.responses.retrieve(first.id)
    with pytest.raises(BadRequestError):
        await client.responses.create(model="gpt-4o", input="And?", previous_response_id=first.id)


async def test_response_with_store_false_is_not_stored(client: AsyncOpenAI) -> None:
    made = await client.responses.create(model="gpt-4o", input="Hello", store=False)
    with pytest.raises(NotFoundError):
        await client.responses.retrieve(made.id)


async def test_encrypted_reasoning_is_accepted_back(client: AsyncOpenAI) -> None:
    first = await client.responses.create(
        model="gpt-4o", input="call: weather", tools=[WEATHER], store=False, **REASONS
    )
    items: list[Any] = [item.model_dump(exclude_none=True) for item in first.output]
    output = {"type": "function_call_output", "call_id": items[-1]["call_id"], "output": "sunny"}
    asked = [{"role": "user", "content": "call: weather"}, *items, output]
    second = await client.responses.create(model="gpt-4o", input=asked, tools=[WEATHER], store=False)
    assert second.output_text == "The tool said: sunny"
    items[0]["encrypted_content"] = "of another provider"
    with pytest.raises(BadRequestError):
        await client.responses.create(model="gpt-4o", input=asked, tools=[WEATHER])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"input": []}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, "input[0].content[0].type"),
        ({"input": [{"type": "function_call_output", "call_id": "a", "output": "x"}]}, "input"),
        ({"input": [{"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}]}, "input"),
        ({"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}, "input"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0].name"),
        ({"text": {"format": {"type": "json_schema", "json_schema": {}}}}, "text.format"),
    ],
)
async def test_request_that_openai_refuses_gets_400(client: AsyncOpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        await client.responses.create(model="gpt-4o", input="Hello", extra_body=fields)
    assert caught.value.param == param


@pytest.mark.parametrize(("model", "last"), [("sim-stream-failed", "response.failed"), ("sim-stream-error", "error")])
async def test_failed_stream_ends_with_its_event(client: AsyncOpenAI, model: str, last: str) -> None:
    kinds = [event.type async for event in await client.responses.create(model=model, input="Hello", stream=True)]
    assert kinds[0] == "response.created"
    assert kinds[-1] == last
    assert "response.output_text.delta" in kinds
    raw = await client.responses.with_raw_response.create(model=model, input="Hello")
    assert b"server_error" in raw.content


async def test_azure_path_takes_its_key_header(simulator: ProviderSimulator) -> None:
    """Azure's v1 endpoint takes the key as a bearer token or as `api-key`."""
    async with AsyncOpenAI(base_url=f"{simulator.azure_url}/openai/v1", api_key=KEY, max_retries=0) as client:
        assert (await client.responses.create(model="gpt-4o", input="Hello")).output_text == "You said: Hello"
        raw = await client.responses.with_raw_response.create(
            model="gpt-4o", input="Hello", extra_headers={"Authorization": "", "api-key": KEY}
        )
        assert orjson.loads(raw.content)["status"] == "completed"
        with pytest.raises(APIStatusError):
            await client.responses.create(model="gpt-4o", input="Hello", extra_headers={"Authorization": ""})
