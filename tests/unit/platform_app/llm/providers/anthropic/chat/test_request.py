"""OpenAI's requests as Anthropic's: every field is translated, forwarded, left out or refused by name."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_app.errors import ProviderRejectedRequest
from platform_app.llm.providers.anthropic.chat.request import (
    LEFT_OUT,
    ONLY_AT_DEFAULT,
    OWN_FIELDS,
    messages_request,
)
from platform_app.llm.providers.anthropic.chat.thinking import DEFAULT_MAX_TOKENS, LEVELS
from tests.support.providers.anthropic_requests import CLOSED, TURN, USER, WEATHER, refused, translated


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
    ("fields", "detail"),
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
def test_invalid_value_is_refused_with_expected_one(fields: dict[str, Any], detail: str) -> None:
    assert refused(**fields) == detail


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


@pytest.mark.parametrize("given", [{}, {"tools": []}, {"parallel_tool_calls": False}])
def test_called_tools_are_defined_for_agent_without_tools(given: dict[str, Any]) -> None:
    """Anthropic requires a definition of each tool that the messages call; the model must not call them again."""
    calls = [
        {"id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": "{}"}}
        for index, name in enumerate(("transfer", "clock", "transfer"))
    ]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "ok"} for call in calls]
    made = translated(messages=[USER, {"role": "assistant", "tool_calls": calls}, *results], **given)
    assert [(tool["name"], tool["input_schema"]) for tool in made["tools"]] == [
        ("transfer", {"type": "object"}), ("clock", {"type": "object"})
    ]  # fmt: skip
    assert made["tool_choice"] == {"type": "none"}


def test_parallel_tool_calls_need_tools() -> None:
    assert "tool_choice" not in translated(parallel_tool_calls=False)


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
