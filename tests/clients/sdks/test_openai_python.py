"""The official Python client over each wire format that supports the feature."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageFunctionToolCall

from apps.provider_simulator.server import ProviderSimulator
from tests.support.gateway.process import Gateway
from tests.support.providers.client_models import EMBEDDING, HELLO, PIXEL, WIRES, Verdict, Weather, asking

OPENAI_LIKE = ("openai", "azure")


@pytest.fixture
def sdk(clients_gateway: Gateway, client_key: str) -> Iterator[openai.OpenAI]:
    """Create a client with our base URL and key, and without retries, so that each error is visible."""
    with openai.OpenAI(base_url=f"{clients_gateway.base_url}/v1", api_key=client_key, max_retries=0) as client:
        yield client


def last_body(provider: ProviderSimulator) -> dict[str, Any]:
    """Return the body of the last request that the provider got."""
    body = provider.requests()[-1].body
    assert body is not None
    sent: dict[str, Any] = json.loads(body)
    return sent


def test_chat_returns_completion(sdk: openai.OpenAI, wire: str) -> None:
    done = sdk.chat.completions.create(model=f"{wire}-ok", messages=HELLO)
    [choice] = done.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == (
        "assistant",
        "You said: hello",
        "stop",
    )
    assert (done.object, done.model) == ("chat.completion", f"{wire}-ok")
    assert done.usage is not None
    assert (done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.total_tokens) == (2, 4, 6)
    assert done._request_id


def test_stream_without_usage_option_has_no_usage(sdk: openai.OpenAI, wire: str) -> None:
    with sdk.chat.completions.create(model=f"{wire}-ok", messages=HELLO, stream=True) as stream:
        chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "You said: hello"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert {c.model for c in chunks} == {f"{wire}-ok"}
    assert all("usage" not in c.model_fields_set for c in chunks)


def test_stream_with_usage_option_ends_with_usage(sdk: openai.OpenAI, wire: str) -> None:
    options: Any = {"include_usage": True}
    chunks = list(sdk.chat.completions.create(model=f"{wire}-ok", messages=HELLO, stream=True, stream_options=options))
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (2, 4)
    assert [c.usage for c in chunks[:-1]] == [None] * (len(chunks) - 1)


def test_stream_helper_returns_completion(sdk: openai.OpenAI, wire: str) -> None:
    options: Any = {"include_usage": True}
    with sdk.chat.completions.stream(model=f"{wire}-ok", messages=HELLO, stream_options=options) as stream:
        kinds = [event.type for event in stream]
        done = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= set(kinds)
    assert done.choices[0].message.content == "You said: hello"
    assert done.usage is not None
    assert done.usage.total_tokens == 6


def test_tool_loop_completes(sdk: openai.OpenAI, wire: str) -> None:
    tools = [openai.pydantic_function_tool(Weather)]
    messages = asking("call:Weather,Weather")
    done = sdk.chat.completions.parse(model=f"{wire}-ok", messages=messages, tools=tools)
    [choice] = done.choices
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls
    assert calls is not None
    assert len({call.id for call in calls}) == 2
    messages.append(choice.message.model_dump(exclude_none=True))
    for call in calls:
        assert isinstance(call.function.parsed_arguments, Weather)
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "sunny"})
    final = sdk.chat.completions.parse(model=f"{wire}-ok", messages=messages, tools=tools)
    assert final.choices[0].message.content == "The tool said: sunny"


def test_streamed_tool_calls_are_assembled(sdk: openai.OpenAI, wire: str) -> None:
    tools = [openai.pydantic_function_tool(Weather)]
    with sdk.chat.completions.stream(model=f"{wire}-ok", messages=asking("call:Weather"), tools=tools) as stream:
        done_events = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        final = stream.get_final_completion()
    assert [event.name for event in done_events] == ["Weather"]
    [call] = final.choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Weather)


def test_tool_choice_required_and_by_name_works(sdk: openai.OpenAI, wire: str) -> None:
    tools: Any = [openai.pydantic_function_tool(Weather)]
    named: Any = {"type": "function", "function": {"name": "Weather"}}
    for choice in ("required", named):
        done = sdk.chat.completions.create(model=f"{wire}-ok", messages=HELLO, tools=tools, tool_choice=choice)
        [call] = done.choices[0].message.tool_calls or []
        assert isinstance(call, ChatCompletionMessageFunctionToolCall)
        Weather.model_validate_json(call.function.arguments)


def test_structured_output_is_parsed(sdk: openai.OpenAI, wire: str) -> None:
    done = sdk.chat.completions.parse(model=f"{wire}-ok", messages=HELLO, response_format=Verdict)
    assert done.choices[0].message.parsed == Verdict(text="You said: hello", sure=True)
    with sdk.chat.completions.stream(model=f"{wire}-ok", messages=HELLO, response_format=Verdict) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == done.choices[0].message.parsed


def test_image_reaches_the_provider(sdk: openai.OpenAI, wire: str, provider: ProviderSimulator) -> None:
    content = [{"type": "text", "text": "what is it"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    messages: Any = [{"role": "user", "content": content}]
    done = sdk.chat.completions.create(model=f"{wire}-ok", messages=messages)
    assert done.choices[0].message.content == "You said: what is it"
    body = last_body(provider)
    assert PIXEL.partition(",")[2] in json.dumps(body.get("messages") or body["input"])


def test_stop_and_max_tokens_set_finish_reason(sdk: openai.OpenAI, wire: str) -> None:
    if wire == "responses":  # the Responses API has no stop sequences
        with pytest.raises(openai.BadRequestError, match="stop: is not available on this model"):
            sdk.chat.completions.create(model=f"{wire}-ok", messages=HELLO, stop=[" said"])
    else:
        stopped = sdk.chat.completions.create(model=f"{wire}-ok", messages=HELLO, stop=[" said"])
        assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ("You", "stop")
    cut = sdk.chat.completions.create(model=f"{wire}-ok", messages=HELLO, max_completion_tokens=2)
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("You said", "length")


@pytest.mark.parametrize("like", OPENAI_LIKE)
def test_choices_logprobs_and_seed_are_returned(sdk: openai.OpenAI, like: str) -> None:
    asked: Any = {"model": f"{like}-ok", "messages": HELLO, "n": 2, "logprobs": True, "seed": 7}
    first, second = (sdk.chat.completions.create(**asked) for _ in range(2))
    assert [c.message.content for c in first.choices] == ["You said: hello", "You said: hello [2]"]
    assert first.choices[0].logprobs is not None
    assert [token.token for token in first.choices[0].logprobs.content or []] == ["You ", "said", ": he", "llo"]
    assert first == second
    streamed = list(sdk.chat.completions.create(**asked, stream=True))
    assert {c.choices[0].index for c in streamed if c.choices} == {0, 1}
    assert any(c.choices[0].logprobs for c in streamed if c.choices)


def test_field_anthropic_lacks_is_refused_by_name(sdk: openai.OpenAI) -> None:
    unable: list[tuple[str, Any]] = [("n", 2), ("logprobs", True), ("response_format", {"type": "json_object"})]
    for name, value in unable:
        with pytest.raises(openai.BadRequestError) as raised:
            sdk.chat.completions.create(**{"model": "anthropic-ok", "messages": HELLO, name: value})
        assert raised.value.param == name


def test_unknown_fields_reach_the_provider(sdk: openai.OpenAI, provider: ProviderSimulator) -> None:
    sdk.chat.completions.create(model="openai-ok", messages=HELLO, extra_body={"of_tomorrow": {"a": [1]}})
    assert last_body(provider)["of_tomorrow"] == {"a": [1]}


def test_refusal_and_reasoning_are_returned(sdk: openai.OpenAI) -> None:
    refused = sdk.chat.completions.create(model="openai-ok", messages=asking("refuse: it"))
    assert refused.choices[0].message.refusal == "I cannot help with that."
    thought = sdk.chat.completions.create(model="openai-ok", messages=HELLO, reasoning_effort="low")
    assert thought.choices[0].message.model_dump()["reasoning_content"] == "They say: hello"


def test_embeddings_return_vectors(sdk: openai.OpenAI) -> None:
    floats = sdk.embeddings.create(model=EMBEDDING, input=["a", "b"], dimensions=8, encoding_format="float")
    # The client's default is base64, which it decodes itself.
    decoded = sdk.embeddings.create(model=EMBEDDING, input=["a", "b"], dimensions=8)
    assert [item.index for item in floats.data] == [0, 1]
    assert floats.model == decoded.model == EMBEDDING
    assert floats.usage.total_tokens == 2
    for one, other in zip(floats.data, decoded.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding)
    raw = sdk.embeddings.with_raw_response.create(model=EMBEDDING, input="a", dimensions=8, encoding_format="base64")
    assert isinstance(json.loads(raw.text)["data"][0]["embedding"], str)


def test_models_are_listed(sdk: openai.OpenAI) -> None:
    names = [model.id for model in sdk.models.list()]
    assert {f"{wire}-ok" for wire in WIRES} | {EMBEDDING} <= set(names)
    shown = sdk.models.retrieve("anthropic-ok")
    assert (shown.id, shown.object, shown.owned_by) == ("anthropic-ok", "model", "anthropic")
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("nothing")


def test_headers_name_provider_attempts_and_request(sdk: openai.OpenAI, wire: str) -> None:
    raw = sdk.chat.completions.with_raw_response.create(model=f"{wire}-ok", messages=HELLO)
    assert raw.headers["x-platform-provider"] == wire
    assert raw.headers["x-platform-model"] == "sim-ok@clients"
    assert raw.headers["x-platform-attempts"] == "1"
    assert raw.headers["x-ratelimit-limit-requests"] == "1000000"
    assert raw.parse()._request_id == raw.headers["x-request-id"] == raw.request_id
    with sdk.chat.completions.with_streaming_response.create(
        model=f"{wire}-ok", messages=HELLO, stream=True, extra_headers={"X-Request-ID": "of-the-client"}
    ) as streamed:
        assert streamed.headers["x-platform-provider"] == wire
        assert streamed.request_id == "of-the-client"
        assert list(streamed.iter_lines())[-2:] == ["data: [DONE]", ""]
