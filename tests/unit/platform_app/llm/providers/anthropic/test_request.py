"""OpenAI's requests as Anthropic's: every field is translated, forwarded, left out or refused by name."""

from itertools import pairwise
from typing import Any

import orjson
import pytest
from anthropic.types import message_create_params
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from platform_app.errors import ProviderRejectedRequest
from platform_app.llm.providers.anthropic.request import (
    LEFT_OUT,
    ONLY_AT_DEFAULT,
    OWN_FIELDS,
    messages_request,
)
from platform_app.llm.providers.anthropic.thinking import DEFAULT_MAX_TOKENS, LEVELS

PARAMS: TypeAdapter[Any] = TypeAdapter(message_create_params.MessageCreateParamsNonStreaming)
"""The request type of the official package."""
USER = {"role": "user", "content": "hi"}
TURN = {"role": "user", "content": [{"type": "text", "text": "hi"}]}
WEATHER = {
    "name": "weather",
    "description": "What the sky does",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}
CLOSED = {"type": "object", "additionalProperties": False}
PNG = "data:image/png;base64,iVBORw0KGgo="


def translated(model: str = "claude", **body: Any) -> dict[str, Any]:
    """Return the request as it is sent."""
    request: dict[str, Any] = orjson.loads(
        orjson.dumps(messages_request(model, {"messages": [USER], **body}, stream=False))
    )
    PARAMS.validate_python(request)
    return request


def refused(model: str = "claude", **body: Any) -> str:
    with pytest.raises(ProviderRejectedRequest) as caught:
        messages_request(model, {"messages": [USER], **body}, stream=False)
    assert caught.value.details is not None
    return caught.value.details[0]


def test_minimal_request_is_translated() -> None:
    assert translated() == {"model": "claude", "max_tokens": DEFAULT_MAX_TOKENS, "messages": [TURN]}
    assert messages_request("claude", {"messages": [USER]}, stream=True)["stream"] is True


@pytest.mark.parametrize(
    ("fields", "made"),
    [
        ({"max_tokens": 9}, {"max_tokens": 9}),
        ({"max_completion_tokens": 9}, {"max_tokens": 9}),
        ({"max_completion_tokens": 9, "max_tokens": 5}, {"max_tokens": 9}),
        ({"max_tokens": None}, {"max_tokens": DEFAULT_MAX_TOKENS}),
        ({"temperature": 0.5}, {"temperature": 0.5}),
        ({"temperature": 0}, {"temperature": 0}),
        ({"top_p": 0.5}, {"top_p": 0.5}),
        ({"top_k": 5}, {"top_k": 5}),
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["A", "B"]}, {"stop_sequences": ["A", "B"]}),
        ({"user": "u-1"}, {"metadata": {"user_id": "u-1"}}),
        ({"safety_identifier": "s-1"}, {"metadata": {"user_id": "s-1"}}),
        ({"reasoning_effort": "high"}, {"output_config": {"effort": "high"}}),
        ({"reasoning_effort": "minimal"}, {"output_config": {"effort": "low"}}),
        ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
        ),
        ({"cache_control": {"type": "ephemeral"}}, {"cache_control": {"type": "ephemeral"}}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}},
            {"output_config": {"format": {"type": "json_schema", "schema": CLOSED}}},
        ),
    ],
)
def test_fields_with_counterpart_are_translated(fields: dict[str, Any], made: dict[str, Any]) -> None:
    request = translated(**fields)
    assert {name: request[name] for name in made} == made
    assert request.keys() == {"model", "max_tokens", "messages", *made}


def test_effort_and_schema_share_output_config() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    assert translated(response_format=form, reasoning_effort="low")["output_config"] == {
        "effort": "low", "format": {"type": "json_schema", "schema": CLOSED},
    }  # fmt: skip


DEFAULTS = [(name, value) for name, values in ONLY_AT_DEFAULT.items() for value in values]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *DEFAULTS,
        *((name, "anything") for name in sorted(LEFT_OUT)),
        ("temperature", 1), ("temperature", 1.0), ("top_p", 1), ("stop", []), ("tools", []),
        ("response_format", {"type": "text"}), ("parallel_tool_calls", True), ("never_heard_of", None), ("n", None),
    ],
)  # fmt: skip
def test_fields_without_effect_are_left_out(field: str, value: Any) -> None:
    assert translated(**{field: value}) == translated()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2), ("logprobs", True), ("top_logprobs", 3), ("presence_penalty", 0.1), ("frequency_penalty", -1),
        ("logit_bias", {"5": 1}), ("modalities", ["text", "audio"]), ("audio", {"voice": "alloy"}),
        ("service_tier", "flex"), ("verbosity", "low"), ("functions", []), ("function_call", "auto"),
        ("web_search_options", {}), ("never_heard_of", 0), ("never_heard_of", {}),
    ],
)  # fmt: skip
def test_untranslatable_field_is_refused_by_name(field: str, value: Any) -> None:
    assert refused(**{field: value}) == f"{field}: is not available on this model"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"temperature": 1.5}, "temperature: must be at most 1 on this model"),
        ({"reasoning_effort": "huge"}, f"reasoning_effort: must be none, {', '.join(LEVELS)}"),
        ({"reasoning_effort": 5}, f"reasoning_effort: must be none, {', '.join(LEVELS)}"),
        (
            {"response_format": {"type": "json_object"}},
            "response_format: must be of type text or json_schema on this model",
        ),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema: is required"),
        ({"tools": 5}, "tools: must be a list"),
        ({"stop": "\n\n"}, "stop: must not be blank on this model"),
        ({"stop": ["END", " "]}, "stop.1: must not be blank on this model"),
        ({"tools": [{"type": "custom"}]}, "tools.0: must be a function with a name on this model"),
        (
            {"tool_choice": {"type": "allowed_tools"}},
            "tool_choice: must be none, auto, required or a function on this model",
        ),
    ],
)
def test_invalid_value_is_refused_with_expected_one(fields: dict[str, Any], told: str) -> None:
    assert refused(**fields) == told


def test_tools_are_translated() -> None:
    bare = {"type": "function", "function": {"name": "clock"}, "cache_control": {"type": "ephemeral"}}
    assert translated(tools=[{"type": "function", "function": WEATHER}, bare])["tools"] == [
        {
            "name": "weather",
            "description": "What the sky does",
            "input_schema": {**WEATHER["parameters"], "additionalProperties": False},  # type: ignore[dict-item]
            "strict": True,
        },
        {
            "name": "clock",
            "input_schema": {"type": "object", "properties": {}},
            "cache_control": {"type": "ephemeral"},
        },
    ]


@pytest.mark.parametrize(
    ("fields", "choice"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
            {"type": "tool", "name": "weather"},
        ),
        ({"parallel_tool_calls": True}, None),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        (
            {"parallel_tool_calls": False, "tool_choice": "required"},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
        ({"parallel_tool_calls": False, "tool_choice": "none"}, {"type": "none"}),
    ],
)
def test_tool_choice_is_translated(fields: dict[str, Any], choice: dict[str, Any] | None) -> None:
    assert translated(tools=[{"type": "function", "function": WEATHER}], **fields).get("tool_choice") == choice


def test_parallel_tool_calls_need_tools() -> None:
    assert "tool_choice" not in translated(parallel_tool_calls=False)


TOOLS = [{"type": "function", "function": {"name": name}} for name in ("clock", "weather")]


def turns(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = translated(messages=list(messages), tools=TOOLS)["messages"]
    return made


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def test_system_messages_are_separated() -> None:
    request = translated(
        messages=[
            {"role": "system", "content": "one"},
            USER,
            {"role": "developer", "content": [text("two"), text("three")]},
            {"role": "assistant", "content": "ho"},
        ]
    )
    assert request["system"] == [text("one"), text("two"), text("three")]
    assert request["messages"] == [TURN, {"role": "assistant", "content": [text("ho")]}]


def test_adjacent_messages_of_one_role_are_merged() -> None:
    assert turns(USER, USER, {"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}, USER) == [
        {"role": "user", "content": [text("hi"), text("hi")]},
        {"role": "assistant", "content": [text("a"), text("b")]},
        TURN,
    ]


def test_tool_calls_and_results_are_translated() -> None:
    calls = [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Berlin"}'}},
        {"id": "call_2", "type": "function", "function": {"name": "clock", "arguments": ""}},
    ]
    made = turns(
        USER,
        {"role": "assistant", "content": "I look.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "call_2", "content": [text("noon"), text("sharp")]},
        {"role": "user", "content": "and?"},
    )
    assert made == [
        TURN,
        {
            "role": "assistant",
            "content": [
                text("I look."),
                {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Berlin"}},
                {"type": "tool_use", "id": "call_2", "name": "clock", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": [text("sunny")]},
                {"type": "tool_result", "tool_use_id": "call_2", "content": [text("noon"), text("sharp")]},
                text("and?"),
            ],
        },
    ]


def test_empty_texts_are_left_out() -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "clock", "arguments": "{}"}}]
    assert turns(
        USER,
        {"role": "assistant", "content": ""},
        {"role": "user", "content": [text("")]},
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c", "content": ""},
    ) == [
        TURN,
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "clock", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c"}]},
    ]


def test_thinking_is_sent_before_content() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    message = {"role": "assistant", "content": "ho", "reasoning_content": "hm", "thinking_blocks": [thinking]}
    assert turns(USER, message)[1]["content"] == [thinking, text("ho")]


def test_refusal_becomes_text() -> None:
    assert turns(USER, {"role": "assistant", "content": None, "refusal": "no"})[1]["content"] == [text("no")]
    part = {"type": "refusal", "refusal": "never"}
    assert turns(USER, {"role": "assistant", "content": [part]})[1]["content"] == [text("never")]


@pytest.mark.parametrize(
    ("url", "source"),
    [
        (PNG, {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}),
        ("data:image/JPEG;base64,/9j/", {"type": "base64", "media_type": "image/jpeg", "data": "/9j/"}),
        ("https://example.com/a.png", {"type": "url", "url": "https://example.com/a.png"}),
    ],
)
def test_images_are_translated(url: str, source: dict[str, str]) -> None:
    part = {"type": "image_url", "image_url": {"url": url, "detail": "low"}, "cache_control": {"type": "ephemeral"}}
    assert turns({"role": "user", "content": [text("see"), part]}) == [
        {
            "role": "user",
            "content": [text("see"), {"type": "image", "source": source, "cache_control": {"type": "ephemeral"}}],
        }
    ]


def test_pdf_becomes_document() -> None:
    part = {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}}
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    assert turns({"role": "user", "content": [part]})[0]["content"] == [
        {"type": "document", "source": source, "title": "a.pdf"}
    ]


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("hi", "messages.0: must be an object"),
        ({"role": "function"}, "messages.0.role: must be system, developer, user, assistant or tool on this model"),
        ({"role": "user"}, "messages.0.content: must be text or a list of parts"),
        ({"role": "user", "content": [5]}, "messages.0.content.0: must be a part with a type"),
        ({"role": "system", "content": [{"type": "image_url"}]}, "messages.0.content.0: must be text on this model"),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
            "messages.0.content.0: parts like this of type 'input_audio' are not available on this model",
        ),
        (
            {"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]},
            "messages.0.content.0: parts like this of type 'file' are not available on this model",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://example.com/a.png"}}]},
            "messages.0.content.0: must be an https:// URL, or a base64 data: URL of a JPEG, PNG, GIF or WebP image",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AA=="}}]},
            "messages.0.content.0: must be an https:// URL, or a base64 data: URL of a JPEG, PNG, GIF or WebP image",
        ),
        (
            {"role": "user", "content": [{"type": "file", "file": {"file_data": "data:text/csv;base64,YQ=="}}]},
            "messages.0.content.0: must be a base64 data: URL of a PDF on this model",
        ),
        ({"role": "tool", "content": "x"}, "messages.0.tool_call_id: is required"),
        ({"role": "assistant", "audio": {"id": "a"}}, "messages.0.audio: is not available on this model"),
        (
            {"role": "assistant", "function_call": {"name": "f"}},
            "messages.0.function_call: is not available on this model; use tool_calls",
        ),
        ({"role": "assistant", "tool_calls": {}}, None),
        ({"role": "assistant", "tool_calls": 5}, "messages.0.tool_calls: must be a list"),
        (
            {"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {}}]},
            "messages.0.tool_calls.0: must be a function call with an id and a name on this model",
        ),
        *(
            (
                {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": odd}}]},
                "messages.0.tool_calls.0.function.arguments: must be a JSON object as text on this model",
            )
            for odd in ("{", "[]", "5", 5, {"a": 1})
        ),
    ],
)
def test_untranslatable_message_is_refused(message: Any, told: str | None) -> None:
    if told is None:
        assert translated(messages=[message, USER])["messages"] == [TURN]
    else:
        assert refused(messages=[message]) == told


@pytest.mark.parametrize("messages", [None, [], "hi", {}, 5])
def test_missing_messages_are_refused(messages: Any) -> None:
    assert refused(messages=messages) == "messages: must be a list with at least one message"


def test_only_system_messages_are_refused() -> None:
    told = refused(messages=[{"role": "system", "content": "be good"}])
    assert told == "messages: must have a message with another role than system on this model"


def test_body_of_caller_is_not_changed() -> None:
    part = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
    body = {
        "messages": [{"role": "user", "content": [part]}, USER],
        "tools": [{"type": "function", "function": WEATHER}],
    }
    before = repr(body)
    messages_request("claude", body, stream=False)
    assert repr(body) == before


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.text(max_size=4) | st.sampled_from(["user", "tool", "text"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "tool_calls", "function", "name", "arguments", "id",
                             "image_url", "url", "file", "file_data", "tool_call_id", "json_schema", "schema"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.sampled_from(["messages", "tools", "tool_choice", "response_format", "stop", "n", "temperature",
                         "max_tokens", "reasoning_effort", "parallel_tool_calls", "logit_bias", "user",
                         *sorted(OWN_FIELDS)]),
        _JSON,
    ),
    st.lists(_JSON, max_size=3),
)  # fmt: skip
def test_any_request_is_translated_or_refused(body: dict[str, Any], messages: list[Any]) -> None:
    for given_messages in (body.get("messages"), [USER, *messages]):
        try:
            request = messages_request("claude", {**body, "messages": given_messages}, stream=False)
        except ProviderRejectedRequest:
            continue
        assert {"model", "max_tokens", "messages"} <= request.keys()
        roles = [turn["role"] for turn in request["messages"]]
        assert all(one != other for one, other in pairwise(roles))
