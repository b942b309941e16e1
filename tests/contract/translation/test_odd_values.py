"""Values of unexpected types bring no error of the gateway's own code, whatever the formats of client and provider."""

import json
import os
from collections.abc import Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from platform_app.llm.providers.anthropic import adapter
from platform_app.llm.translation.field_names import client_fields
from tests.contract.translation.odd_values import FORMATS, varied
from tests.support.gateway.in_process.gateway import WIRES, InProcessGateway
from tests.support.gateway.in_process.provider import Script, json_script

REQUESTS = int(os.environ.get("ODD_VALUES_REQUESTS", "400"))
"""For each format of the client and of the provider."""
SEED = int(os.environ.get("ODD_VALUES_SEED", "20"))
_CALL = {"id": "c", "type": "function", "function": {"name": "ns__k", "arguments": "{}"}}
_CHAT = {
    "id": "c", "object": "chat.completion", "model": "up", "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    "choices": [{"index": 0, "finish_reason": "stop",
                 "message": {"role": "assistant", "content": "Hi", "tool_calls": [_CALL]}}],
}  # fmt: skip
_MESSAGE = {
    "id": "m", "type": "message", "role": "assistant", "model": "up", "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 1},
}  # fmt: skip
_RESPONSE = {
    "id": "r", "object": "response", "status": "completed", "model": "up",
    "usage": {"input_tokens": 1, "output_tokens": 1},
    "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}],
}  # fmt: skip
_SERVED = {"openai": _CHAT, "azure": _CHAT, "openai-responses": _RESPONSE, "anthropic": _MESSAGE}
_REFUSED = {
    "error": {
        "type": "invalid_request_error", "param": "messages[0].content",
        "message": "Invalid 'messages[0].content[1].type', tools.0.function, input[2], max_tokens, messages[9].content",
    }
}  # fmt: skip


def script_of(wire: str, number: int) -> Script:
    """Return a response, and every second time a refusal that names fields."""
    return json_script(_REFUSED, 400) if number % 2 else json_script(_SERVED[wire])


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("name", FORMATS)
async def test_odd_values_bring_no_error_of_the_gateway(name: str, wire: str) -> None:
    client = FORMATS[name]
    gateway = InProcessGateway(wire, allow_fields=["container", "service_tier", "tools.web_search", "zz"])
    statuses = set()
    wrong: list[tuple[Any, ...]] = []
    for number, body in enumerate(varied(client.bodies, SEED, REQUESTS)):
        with capture_logs() as logs:
            stream = name != "count_tokens" and number % 3 == 0
            asked = {**body, "stream": True} if stream else body
            reply = await gateway.ask(client.path, asked, script_of(wire, number), client.headers)
        statuses.add(reply.status)
        bugs = [line for line in logs if line["event"].endswith("_bug") or line["log_level"] in ("error", "critical")]
        if reply.status == 500 or b"internal_error" in reply.body or bugs:
            wrong.append((body, reply.status, bugs))
    assert not wrong, (len(wrong), wrong[0])
    assert 400 in statuses


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("name", FORMATS)
async def test_requests_that_are_varied_are_valid(name: str, wire: str) -> None:
    """Else their variations would be refused before a translation reads them."""
    client = FORMATS[name]
    for body in client.bodies:
        reply = await InProcessGateway(wire).ask(client.path, body, script_of(wire, 0), client.headers)
        assert reply.status != 500
        assert b'invalid_request"' not in reply.body, reply.body


_USER = {"role": "user", "content": "x"}
_CHAT_REQUEST = ("/v1/chat/completions", {"messages": [_USER]})
_HISTORY = [
    _USER,
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1.5}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "r"}]},
]
_LIST_AS_FORMAT = {"type": "object", "properties": {"a": {"format": []}}}
_ALLOWED = {"type": "allowed_tools", "tools": [{"type": "function", "name": "f"}]}
_DEEP: Any = json.loads("[" * 252 + "]" * 252)
FOUND: Mapping[str, tuple[str, str, int, Mapping[str, Any]]] = {
    "a hosted tool is added by the input alone": (
        "responses", "openai", 400, {"input": [{"type": "additional_tools", "tools": [{"type": "web_search"}]}]}),
    "a hosted tool is added beside tools of null": (
        "responses", "openai", 400,
        {"tools": None, "input": [{"type": "additional_tools", "tools": [{"type": "web_search"}]}]}),
    "a negative thinking budget": (
        "messages", "openai", 400,
        {"max_tokens": 5, "messages": [_USER], "thinking": {"type": "enabled", "budget_tokens": -1}}),
    "a negative thinking budget is counted": (
        "count_tokens", "openai", 400,
        {"messages": [_USER], "thinking": {"type": "enabled", "budget_tokens": -1}}),
    "a list as the format of a schema": (
        "chat", "anthropic", 200,
        {"messages": [_USER],
         "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": _LIST_AS_FORMAT}}}),
    "a list as the format of a strict tool": (
        "chat", "anthropic", 200,
        {"messages": [_USER],
         "tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": _LIST_AS_FORMAT}}]}),
    "a function beside a name, and allowed tools": (
        "responses", "openai", 400,
        {"input": "x", "tools": [{"type": "function", "name": "f", "function": 5}], "tool_choice": _ALLOWED}),
    "a custom beside a name, and more tools": (
        "responses", "openai", 400,
        {"input": [_USER, {"type": "additional_tools", "tools": [{"type": "function", "name": "g"}]}],
         "tools": [{"type": "custom", "name": "f", "custom": 5}]}),
    "an index of thousands of digits": (
        "responses", "anthropic", 400, {"input": "x", "messages[" + "1" * 100 + "]": 1}),
    "a field that is too deep for the events that repeat it": (
        "responses", "openai", 400, {"input": "x", "reasoning": {"summary": _DEEP}, "stream": True}),
    "a float in earlier arguments": (
        "messages", "openai", 400, {"max_tokens": 5, "messages": _HISTORY, "stop_sequences": ["a"]}),
    "a float in examples of the input": (
        "messages", "openai", 400,
        {"max_tokens": 5, "messages": [_USER],
         "tools": [{"name": "f", "input_schema": {"type": "object"}, "input_examples": [{"a": 1.5}]}]}),
}  # fmt: skip


@pytest.mark.parametrize("case", FOUND)
async def test_value_that_was_a_status_500(case: str) -> None:
    name, wire, status, body = FOUND[case]
    client = FORMATS[name]
    with capture_logs() as logs:
        script = json_script(_REFUSED, 400) if status == 400 else json_script(_SERVED[wire])
        reply = await InProcessGateway(wire).ask(client.path, body, script, client.headers)
    assert reply.status == status, reply.body
    assert not [line for line in logs if line["event"].endswith("_bug")]


async def test_bug_of_a_translation_is_a_refusal_and_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise LookupError

    monkeypatch.setattr(adapter, "messages_request", fail)
    with capture_logs() as logs:
        reply = await InProcessGateway("anthropic").ask(*_CHAT_REQUEST)
    assert (reply.status, reply.json()["error"]["code"]) == (400, "provider_rejected_request")
    assert ("request_translation_bug", "request") in [(line["event"], line.get("step")) for line in logs]


async def test_bug_while_naming_fields_keeps_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise LookupError

    monkeypatch.setattr(client_fields, "use_client_names", fail)
    with capture_logs() as logs:
        reply = await InProcessGateway("anthropic").ask(*_CHAT_REQUEST, json_script(_REFUSED, 400))
    assert (reply.status, reply.json()["error"]["code"]) == (400, "provider_rejected_request")
    assert ("request_translation_bug", "field names") in [(line["event"], line.get("step")) for line in logs]
