"""The official Python client's Responses API over each wire format."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import Response

from tests.support.gateway.process import Gateway
from tests.support.providers.client_models import Verdict

TOOL: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}


@pytest.fixture
def sdk(clients_gateway: Gateway, client_key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{clients_gateway.base_url}/v1", api_key=client_key, max_retries=0) as client:
        yield client


def counts(response: Response) -> tuple[int, int, int]:
    assert response.usage is not None
    return response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens


def test_response_has_text_model_and_usage(sdk: openai.OpenAI, wire: str) -> None:
    done = sdk.responses.create(model=f"{wire}-ok", input="hello")
    assert (done.output_text, done.status, done.model) == ("You said: hello", "completed", f"{wire}-ok")
    assert counts(done) == (2, 4, 6)


def test_response_stream_rebuilds_the_same_output(sdk: openai.OpenAI, wire: str) -> None:
    with sdk.responses.stream(model=f"{wire}-ok", input="hello") as stream:
        events = list(stream)
        done = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == done.output_text
    assert (done.output_text, counts(done)) == ("You said: hello", (2, 4, 6))


@pytest.mark.parametrize("streams", [False, True])
def test_response_tool_loop_completes(sdk: openai.OpenAI, wire: str, streams: bool) -> None:
    def ask(items: list[Any]) -> Response:
        fields: dict[str, Any] = {"model": f"{wire}-ok", "input": items, "tools": [TOOL], "store": False}
        if not streams:
            whole: Response = sdk.responses.create(**fields)
            return whole
        with sdk.responses.stream(**fields) as stream:
            return stream.get_final_response()

    asked: list[Any] = [{"role": "user", "content": "call:weather,weather"}]
    first = ask(asked)
    calls = [item for item in first.output if item.type == "function_call"]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [("weather", {"city": "text"})] * 2
    results = [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"} for call in calls]
    echoed = [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in first.output]
    assert ask([*asked, *echoed, *results]).output_text == "The tool said: sunny"


def test_parsed_response_is_an_object(sdk: openai.OpenAI, wire: str) -> None:
    parsed = sdk.responses.parse(model=f"{wire}-ok", input="hello", text_format=Verdict).output_parsed
    assert parsed is not None
    assert parsed.sure


def test_reasoning_items_survive_a_turn(sdk: openai.OpenAI, wire: str) -> None:
    """The gateway asks an Anthropic model to think only if it knows that the model can."""
    fields: dict[str, Any] = {
        "model": f"{wire}-ok", "store": False, "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "medium", "summary": "auto"},
    }  # fmt: skip
    asked: list[Any] = [{"role": "user", "content": "hello"}]
    first = sdk.responses.create(input=asked, **fields)
    assert [item.type for item in first.output] == (["message"] if wire == "anthropic" else ["reasoning", "message"])
    assert first.usage is not None
    again = [*asked, *(item.model_dump(exclude_none=True) for item in first.output), *asked]
    assert sdk.responses.create(input=again, **fields).output_text == "You said: hello"


def test_unknown_model_of_responses_is_not_found(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        sdk.responses.create(model="gpt-9", input="hello")
    assert raised.value.code == "model_not_found"


@pytest.mark.parametrize("fault", ["server-error", "stream-error"])
def test_failure_in_response_stream_ends_in_failure(sdk: openai.OpenAI, wire: str, fault: str) -> None:
    """A stream that fails ends in an error or in `response.failed`."""
    ended = []
    try:
        for event in sdk.responses.create(model=f"{wire}-{fault}", input="hello", stream=True):
            ended.append(event.type)  # noqa: PERF401 - it may raise
    except openai.APIError as error:
        assert error.code in ("provider_error", "server_error")  # noqa: PT017 - either end is right
        return
    assert ended[-1] in ("response.failed", "error")


async def test_async_client_streams_responses(clients_gateway: Gateway, client_key: str, wire: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{clients_gateway.base_url}/v1", api_key=client_key) as client:
        done = await client.responses.create(model=f"{wire}-ok", input="hello")
        async with client.responses.stream(model=f"{wire}-ok", input="hello") as stream:
            streamed = await stream.get_final_response()
    assert (done.output_text, streamed.output_text) == ("You said: hello", "You said: hello")
