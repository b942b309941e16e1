"""Errors name the fields of the client's request, whether the provider or a translation refuses the request."""

import json
from typing import Any

import pytest

from tests.support.gateway.chat_routes import CHAT, MESSAGES, RESPONSES, ChatRoute
from tests.support.gateway.in_process.gateway import InProcessGateway
from tests.support.gateway.in_process.provider import json_script

RESPONSES_TURNS = {
    "instructions": "Be brief.",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Rome"}'},
        {"type": "function_call", "call_id": "call_2", "name": "weather", "arguments": '{"city": "Bern"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "Sunny"},
        {"type": "function_call_output", "call_id": "call_2", "output": "Rain"},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "And this?"},
                {"type": "input_image", "image_url": "https://images.example.com/a.png"},
            ],
        },
    ],
    "tools": [
        {
            "type": "namespace",
            "name": "house",
            "tools": [
                {"type": "function", "name": "light", "description": "Switches it.", "parameters": {"type": "object"}}
            ],
        },
        {"type": "function", "name": "weather", "description": "Weather of a city.", "parameters": {"type": "object"}},
    ],
    "reasoning": {"effort": "high"},
    "text": {"format": {"type": "json_schema", "name": "place", "schema": {"type": "object"}}, "verbosity": "low"},
    "parallel_tool_calls": True,
}
MESSAGES_TURNS = {
    "system": [{"type": "text", "text": "Be brief."}],
    "messages": [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Sunny"},
                {"type": "text", "text": "And this?"},
                {"type": "image", "source": {"type": "url", "url": "https://images.example.com/a.png"}},
            ],
        },
    ],
    "tools": [{"name": "weather", "description": "Weather.", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "stop_sequences": ["END"],
    "output_config": {"effort": "high"},
}
BY_PROVIDER: list[tuple[ChatRoute, str, str, str]] = [
    (RESPONSES, "openai", "max_completion_tokens", "max_output_tokens"),
    (RESPONSES, "openai", "max_tokens", "max_output_tokens"),
    (RESPONSES, "openai", "messages", "input"),
    (RESPONSES, "openai", "messages[0].content", "instructions"),
    (RESPONSES, "openai", "messages[1].content", "input[0].content[0].text"),
    (RESPONSES, "openai", "messages[2].tool_calls", "input[1]"),
    (RESPONSES, "openai", "messages[2].tool_calls[1].function.arguments", "input[2]"),
    (RESPONSES, "openai", "messages.[3].content", "input[3].output"),
    (RESPONSES, "openai", "messages[5].content[1].image_url.url", "input[5].content[1].image_url"),
    (RESPONSES, "openai", "tools[0].function.parameters", "tools[0].tools[0].parameters"),
    (RESPONSES, "openai", "tools[1].function.name", "tools[1].name"),
    (RESPONSES, "openai", "response_format.json_schema.schema", "text.format.schema"),
    (RESPONSES, "openai", "response_format", "text.format"),
    (RESPONSES, "azure", "reasoning_effort", "reasoning.effort"),
    (RESPONSES, "azure", "verbosity", "text.verbosity"),
    (RESPONSES, "azure", "parallel_tool_calls", "parallel_tool_calls"),
    (MESSAGES, "openai", "max_completion_tokens", "max_tokens"),
    (MESSAGES, "openai", "stop", "stop_sequences"),
    (MESSAGES, "openai", "messages[0].content", "system.0.text"),
    (MESSAGES, "openai", "messages[2].tool_calls[0].function.name", "messages.1.content.1.name"),
    (MESSAGES, "openai", "messages[3].content", "messages.2.content.0.content"),
    (MESSAGES, "openai", "messages[4].content[1].image_url.url", "messages.2.content.2.source.url"),
    (MESSAGES, "openai", "tools[0].function.parameters.type", "tools.0.input_schema.type"),
    (MESSAGES, "azure", "reasoning_effort", "output_config.effort"),
    (MESSAGES, "azure", "parallel_tool_calls", "tool_choice.disable_parallel_tool_use"),
    (MESSAGES, "openai-responses", "max_output_tokens", "max_tokens"),
    (MESSAGES, "openai-responses", "input[3].name", "messages.1.content.1.name"),
    (MESSAGES, "openai-responses", "input", "messages"),
    (MESSAGES, "openai-responses", "reasoning.effort", "output_config.effort"),
    (CHAT, "openai-responses", "max_output_tokens", "max_tokens"),
    (CHAT, "openai-responses", "input[0].content", "messages.0.content"),
]


def fields_of(route: ChatRoute, wire: str) -> dict[str, Any]:
    """Return the fields of a request that this wire format can express."""
    fields: dict[str, Any] = {"responses": RESPONSES_TURNS, "messages": MESSAGES_TURNS}.get(route.name, {})
    left_out = {"openai-responses": {"stop_sequences"}, "anthropic": {"text"}}.get(wire, set())
    return {name: value for name, value in fields.items() if name not in left_out}


@pytest.mark.parametrize(("route", "wire", "theirs", "ours"), BY_PROVIDER, ids=lambda each: getattr(each, "name", each))
async def test_provider_refusal_names_the_clients_field(route: ChatRoute, wire: str, theirs: str, ours: str) -> None:
    gateway = InProcessGateway(wire)
    message = f"Invalid value for '{theirs}'."
    refusal = {"error": {"message": message, "type": "invalid_request_error", "param": theirs, "code": "invalid_value"}}
    asked = {**route.body(model="m"), **fields_of(route, wire)}
    reply = await gateway.ask(route.path, asked, json_script(refusal, 400), route.headers)
    assert reply.status == 400, reply.body
    assert f"'{ours}'" in reply.json()["error"]["message"]
    if route is not MESSAGES:
        assert reply.json()["error"]["param"] == ours


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("max_tokens", "max_output_tokens"),
        ("messages.0.content.0.text", "input[0].content[0].text"),
        ("messages.1.content.0.tool_use.name", "input[1].name"),
        ("messages.2.content.0.tool_result.content", "input[3]"),
        ("messages.2.content.3.image.source.url", "input[5].content[1].image_url"),
        ("tools.1.custom.input_schema", "tools[1].parameters"),
        ("output_config.effort", "reasoning.effort"),
        ("system.0.text", "instructions"),
    ],
)
async def test_anthropics_refusal_names_the_clients_field(theirs: str, ours: str) -> None:
    gateway = InProcessGateway("anthropic", "claude-sonnet-5")
    refusal = {"type": "error", "error": {"type": "invalid_request_error", "message": f"{theirs}: Input is wrong"}}
    asked = {**RESPONSES.body(model="m"), **fields_of(RESPONSES, "anthropic")}
    reply = await gateway.ask(RESPONSES.path, asked, json_script(refusal, 400))
    error = reply.json()["error"]
    assert (reply.status, error["param"]) == (400, ours)
    assert f"{ours}: Input is wrong" in error["message"]
    assert theirs not in error["message"].replace(ours, "")


@pytest.mark.parametrize(
    ("route", "wire", "fields", "ours"),
    [
        (RESPONSES, "anthropic", {"text": {"format": {"type": "json_object"}}}, "text.format"),
        (RESPONSES, "anthropic", {"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        (RESPONSES, "anthropic", {"include": ["message.output_text.logprobs"]}, "include"),
        (
            RESPONSES,
            "anthropic",
            {"tools": [{"type": "custom", "name": "sql", "format": {"type": "regex"}}]},
            "tools[0].format",
        ),
        (
            RESPONSES,
            "openai",
            {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f"}] * 3}, 7]},
            "tools[1]",
        ),
        (
            RESPONSES,
            "openai",
            {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f", "strict": 7}]}]},
            "tools[0].tools[0].strict",
        ),
        (RESPONSES, "openai", {"tools": [{"type": "function", "name": ""}]}, "tools[0].name"),
        (RESPONSES, "anthropic", {"temperature": 1.5}, "temperature"),
        (
            RESPONSES,
            "anthropic",
            {"input": [{"type": "function_call", "call_id": "a", "name": "f", "arguments": "{"}]},
            "input[0]",
        ),
        (
            RESPONSES,
            "openai-responses",
            {"input": [{"role": "user", "content": "Hi."}], "store": True},
            "store",
        ),
        (
            RESPONSES,
            "openai",
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://a.example.com/b"}]}]},
            "input[0].content[0].file_url",
        ),
        (RESPONSES, "openai", {"input": [{"type": "message", "role": "boss", "content": "x"}]}, "input[0].role"),
        (MESSAGES, "openai-responses", {"stop_sequences": ["END"]}, "stop_sequences"),
        (MESSAGES, "openai-responses", {"top_k": 4}, "top_k"),
        (MESSAGES, "openai", {"top_k": 4}, "top_k"),
        (MESSAGES, "openai", {"messages": [{"role": "boss", "content": "x"}]}, "messages.0.role"),
    ],
    ids=lambda each: getattr(each, "name", None) or str(each)[:24],
)
async def test_translations_refusal_names_the_clients_field(
    route: ChatRoute, wire: str, fields: dict[str, Any], ours: str
) -> None:
    gateway = InProcessGateway(wire, "claude-sonnet-5" if wire == "anthropic" else "up")
    reply = await gateway.ask(route.path, {**route.body(model="m"), **fields}, None, route.headers)
    assert reply.status == 400, reply.body
    assert not gateway.provider.received
    error = reply.json()["error"]
    assert f"{ours}: " in error["message"], error
    assert error.get("param", ours) == ours


async def test_advice_names_the_clients_limit() -> None:
    gateway = InProcessGateway("openai")
    refusal = {"error": {"message": "too long", "code": "context_length_exceeded", "param": None, "type": None}}
    reply = await gateway.ask(RESPONSES.path, RESPONSES.body(model="m"), json_script(refusal, 400))
    assert "lower max_output_tokens" in reply.json()["error"]["message"]


async def test_native_refusal_keeps_its_field() -> None:
    """A provider of the client's format has its fields."""
    gateway = InProcessGateway("openai-responses")
    refusal = {
        "error": {"message": "Unknown parameter: 'max_tokens'.", "param": "max_tokens", "type": None, "code": None}
    }
    reply = await gateway.ask(RESPONSES.path, RESPONSES.body(model="m", truncation="auto"), json_script(refusal, 400))
    assert reply.json()["error"]["param"] == "max_tokens"
    assert "'max_tokens'" in reply.json()["error"]["message"]


async def test_error_event_before_content_names_the_clients_field() -> None:
    gateway = InProcessGateway("openai")
    refusal = {"error": {"message": "messages[0].content is wrong", "type": "invalid_request_error", "param": "stop"}}
    asked = MESSAGES.body(model="m", stream=True, stop_sequences=["END"])
    reply = await gateway.ask(MESSAGES.path, asked, json_script(refusal), MESSAGES.headers)
    message = json.loads(reply.body)["error"]["message"]
    assert reply.status == 400
    assert "messages.0.content is wrong" in message
