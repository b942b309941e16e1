"""Chat requests as Responses requests: translated, forwarded, left out, or refused by name."""

from typing import Any

import pytest

from platform_app.llm.errors import UnsupportedByProvider
from platform_app.llm.providers.openai_responses.chat.request import responses_request
from platform_app.llm.providers.openai_responses.reasoning import ENCRYPTED, stateless
from platform_app.llm.translation.carried import carry_reasoning, carry_thinking

Fields = dict[str, Any]
HI: Fields = {"role": "user", "content": "hi"}
RED = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
PDF = {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}}
THOUGHT: Fields = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [],
    "encrypted_content": "sealed",
    "status": "completed",
}
KEPT = {name: value for name, value in THOUGHT.items() if name != "status"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CUSTOM = {"id": "call_2", "type": "custom", "custom": {"name": "g", "input": "x"}}
CALLED: Fields = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "done"}


def made(model: str = "m", *, stream: bool = False, **fields: Any) -> Fields:
    """Return what is sent, without the fields that every request has."""
    request = responses_request(model, {"messages": [HI], **fields}, stream=stream)
    assert (request.pop("model"), request.pop("store")) == (model, False)
    assert request.pop("stream", False) is stream
    items = request.pop("input")
    return request if items == [HI] else {**request, "input": items}


def items_of(*messages: Fields) -> list[Fields]:
    items: list[Fields] = made(messages=list(messages))["input"]
    return items


TRANSLATED: list[tuple[Fields, Fields]] = [
    ({}, {}),
    ({"temperature": 0.5, "user": "u", "n": 1, "stop": None, "logit_bias": {}}, {"temperature": 0.5, "user": "u"}),
    ({"store": True, "seed": 5, "prediction": {}, "modalities": ["text"]}, {}),
    ({"max_tokens": 5}, {"max_output_tokens": 5}),
    ({"max_completion_tokens": 6, "max_tokens": 5}, {"max_output_tokens": 6}),
    ({"verbosity": "low"}, {"text": {"verbosity": "low"}}),
    ({"reasoning_effort": "none"}, {"reasoning": {"effort": "none"}}),
    ({"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}, "include": [ENCRYPTED]}),
    (
        {"reasoning_effort": "low", "reasoning": {"summary": "auto"}},
        {"reasoning": {"summary": "auto", "effort": "low"}, "include": [ENCRYPTED]},
    ),
    ({"logprobs": False, "top_logprobs": None}, {}),
    ({"logprobs": True, "top_logprobs": 2}, {"include": ["message.output_text.logprobs"], "top_logprobs": 2}),
    ({"stream_options": {"include_usage": True}}, {}),
    ({"response_format": {"type": "text"}}, {}),
    ({"response_format": {"type": "json_object"}}, {"text": {"format": {"type": "json_object"}}}),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}, "strict": True}}},
        {"text": {"format": {"type": "json_schema", "name": "a", "schema": {}, "strict": True}}},
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"a": 1}}}},
        {"text": {"format": {"type": "json_schema", "name": "response", "schema": {"a": 1}, "strict": False}}},
    ),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "description": "d"}}], "tool_choice": "required"},
        {
            "tools": [{"type": "function", "name": "f", "description": "d", "strict": False,
                       "parameters": {"type": "object", "properties": {}}}],
            "tool_choice": "required",
        },
    ),
    (
        {"tools": [{"type": "custom", "custom": {"name": "g", "format": {"type": "grammar", "grammar": {"a": 1}}}}]},
        {"tools": [{"type": "custom", "name": "g", "format": {"type": "grammar", "a": 1}}]},
    ),
    ({"tools": [{"type": "web_search"}]}, {"tools": [{"type": "web_search"}]}),
    (
        {"tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"tool_choice": {"type": "function", "name": "f"}},
    ),
    (
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {
            "mode": "auto", "tools": [{"type": "custom", "custom": {"name": "g"}}]}}},
        {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "custom", "name": "g"}]}},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("given", "sent"), TRANSLATED)
def test_field_is_translated_or_left_out(given: Fields, sent: Fields) -> None:
    assert made(**given) == sent


def test_stream_option_of_both_formats_passes() -> None:
    options = {"include_usage": True, "include_obfuscation": False}
    assert made(stream=True, stream_options=options) == {"stream_options": {"include_obfuscation": False}}


@pytest.mark.parametrize(
    ("model", "reasons"),
    [("gpt-5", True), ("gpt-5-codex", True), ("o3-mini", True), ("gpt-6.2-astra", True), ("openai/o4-mini", True),
     ("gpt-5-chat-latest", False), ("gpt-4o", False), ("gpt-4.1", False), ("sim-ok", False), ("my-deployment", False)],
)  # fmt: skip
def test_encrypted_reasoning_is_included_for_models_that_reason(model: str, reasons: bool) -> None:
    assert made(model) == ({"include": [ENCRYPTED]} if reasons else {})


MESSAGES: list[tuple[list[Fields], list[Fields]]] = [
    ([{"role": "system", "content": "s"}, HI], [{"role": "system", "content": "s"}, HI]),
    ([{"role": "developer", "content": [{"type": "text", "text": "d"}]}, HI],
     [{"role": "developer", "content": [{"type": "input_text", "text": "d"}]}, HI]),
    ([{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}, RED, PDF]}],
     [{"role": "user", "content": [
         {"type": "input_text", "text": "a"},
         {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "auto"},
         {"type": "input_file", "file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}]}]),
    ([HI, {"role": "assistant", "content": "a", "refusal": None}], [HI, {"role": "assistant", "content": "a"}]),
    ([HI, {"role": "assistant", "content": "a", "refusal": "no"}],
     [HI, {"role": "assistant", "content": [
         {"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "no"}]}]),
    ([HI, {**CALLED, "content": "", "reasoning_items": [THOUGHT], "reasoning_content": "hm"}, RESULT],
     [HI, KEPT, {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
      {"type": "function_call_output", "call_id": "call_1", "output": "done"}]),
    ([HI, {"role": "assistant", "tool_calls": [CUSTOM]}, {**RESULT, "tool_call_id": "call_2"}],
     [HI, {"type": "custom_tool_call", "call_id": "call_2", "name": "g", "input": "x"},
      {"type": "custom_tool_call_output", "call_id": "call_2", "output": "done"}]),
    ([HI, CALLED, {**RESULT, "content": [{"type": "text", "text": "a"}, RED]}],
     [HI, {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
      {"type": "function_call_output", "call_id": "call_1", "output": [
          {"type": "input_text", "text": "a"},
          {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "auto"}]}]),
]  # fmt: skip


@pytest.mark.parametrize(("messages", "items"), MESSAGES)
def test_message_becomes_items(messages: list[Fields], items: list[Fields]) -> None:
    assert items_of(*messages) == items


FOREIGN: list[Fields] = [
    {"reasoning_items": [{**THOUGHT, "encrypted_content": None}]},
    {"reasoning_items": [{**THOUGHT, "encrypted_content": carry_thinking([{"type": "thinking"}])}]},
    {"thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "of Anthropic"}]},
    {"reasoning_content": "hm"},
]


@pytest.mark.parametrize("fields", FOREIGN)
def test_reasoning_of_another_provider_is_left_out(fields: Fields) -> None:
    assert items_of(HI, {"role": "assistant", "content": "a", **fields}, HI)[1] == {"role": "assistant", "content": "a"}


def test_carried_reasoning_is_sent_back() -> None:
    """A Messages client gets a reasoning item in the signature of a thinking block."""
    block = {"type": "thinking", "thinking": "", "signature": carry_reasoning(KEPT)}
    messages = [HI, {"role": "assistant", "content": "a", "thinking_blocks": [block]}, HI]
    request = made(messages=messages)
    assert request["input"][1] == KEPT
    assert request["include"] == [ENCRYPTED]


def test_reasoning_without_content_after_it_is_left_out() -> None:
    """OpenAI refuses a reasoning item without the item that it led to."""
    assert items_of(HI, {"role": "assistant", "content": "", "reasoning_items": [THOUGHT]}, HI) == [HI, HI]


@pytest.mark.parametrize("call_id", ["functions.f:0", "x" * 65, ""])
def test_odd_call_id_is_replaced_in_call_and_result(call_id: str) -> None:
    called = {**CALLED, "tool_calls": [{**CALL, "id": call_id}]}
    _, call, result = items_of(HI, called, {**RESULT, "tool_call_id": call_id})
    assert call["call_id"] == result["call_id"]
    assert 0 < len(call["call_id"]) <= 64


REFUSED: list[tuple[str, Fields]] = [
    ("n", {"n": 2}),
    ("stop", {"stop": ["x"]}),
    ("presence_penalty", {"presence_penalty": 0.5}),
    ("logit_bias", {"logit_bias": {"5": 1}}),
    ("modalities", {"modalities": ["text", "audio"]}),
    ("audio", {"audio": {"voice": "alloy"}}),
    ("functions", {"functions": []}),
    ("top_k", {"top_k": 5}),
    ("web_search_options", {"web_search_options": {}}),
    ("tools", {"tools": {}}),
    ("tools.0", {"tools": [{"type": "local_shell"}]}),
    ("tools.0", {"tools": [{"type": "function", "name": "flat"}]}),
    ("tools.0.function.parameters", {"tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}]}),
    ("tool_choice", {"tool_choice": {"type": "mcp"}}),
    ("response_format", {"response_format": {"type": "grammar"}}),
    ("response_format.json_schema.schema", {"response_format": {"type": "json_schema", "json_schema": {}}}),
    ("reasoning", {"reasoning": {"max_tokens": 5}}),
    ("messages", {"messages": []}),
    ("messages.0", {"messages": ["hi"]}),
    ("messages.0.role", {"messages": [{"role": "function", "name": "f", "content": "x"}]}),
    ("messages.0.content", {"messages": [{"role": "user", "content": 5}]}),
    ("messages.0.content.0", {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}),
    ("messages.0.content.0.file", {"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}),
    ("messages.0.content.0", {"messages": [{"role": "system", "content": [RED]}]}),
    ("messages.0.audio", {"messages": [{"role": "assistant", "audio": {"id": "a"}}]}),
    ("messages.0.function_call", {"messages": [{"role": "assistant", "function_call": {"name": "f"}}]}),
    ("messages.0.tool_calls.0", {"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]}),
    ("messages.0.tool_call_id", {"messages": [RESULT]}),
    ("messages.1.tool_calls.0", {"messages": [HI, CALLED, HI]}),
    ("messages.1.reasoning_items.0", {"messages": [HI, {**CALLED, "reasoning_items": ["x"]}, RESULT]}),
]


@pytest.mark.parametrize(("place", "fields"), REFUSED)
def test_inexpressible_field_is_refused_by_name(place: str, fields: Fields) -> None:
    with pytest.raises(UnsupportedByProvider) as caught:
        made(**fields)
    assert caught.value.param == place


LOGPROBS = "message.output_text.logprobs"


@pytest.mark.parametrize(
    ("model", "body", "included"),
    [
        ("gpt-4o", {}, None), ("gpt-5-chat-latest", {}, None), ("my-deployment", {"reasoning": {}}, None),
        ("gpt-5", {"reasoning": {"effort": "none"}}, None), ("o3-mini", {}, [ENCRYPTED]),
        ("openai/gpt-5.1-codex", {"store": False}, [ENCRYPTED]),
        ("my-deployment", {"reasoning": {"effort": "low"}}, [ENCRYPTED]),
        ("gpt-5", {"include": [ENCRYPTED]}, [ENCRYPTED]), ("gpt-5", {"include": [LOGPROBS]}, [LOGPROBS, ENCRYPTED]),
        ("gpt-5", {"store": True}, None),
    ],
)  # fmt: skip
def test_native_request_gets_its_reasoning_encrypted(model: str, body: Fields, included: list[str] | None) -> None:
    """By the model's name at the provider, since the public name may be an alias."""
    sent = stateless(model, body)
    assert sent.get("include") == included
    assert sent["store"] is body.get("store", False)
