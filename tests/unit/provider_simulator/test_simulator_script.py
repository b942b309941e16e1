"""The scripted sessions of the simulated model, in the formats of providers."""

import json
from typing import Any

import pytest

from apps.provider_simulator.formats.anthropic_responses import MessageAnswer
from apps.provider_simulator.formats.openai_chat import ChatAnswer
from apps.provider_simulator.formats.responses.response import ResponsesAnswer
from apps.provider_simulator.formats.responses.store import ResponseStore
from apps.provider_simulator.model.simulated_model import InvalidRequestError

TURNS = [
    {"text": "I read.", "calls": [{"name": "read", "arguments": {"path": "a"}}]},
    {"calls": [{"name": "edit", "arguments": {"n": 1}}, {"name": "run", "arguments": {}}]},
    {"text": "It printed {result}."},
]
ASKED = {"role": "user", "content": f"script:{json.dumps(TURNS)}"}
SYSTEM_BETA = "mid-conversation-system-2026-04-07"
TOOLS = [{"type": "function", "function": {"name": "read", "parameters": {}}}]


def turn(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    body = {"model": "m", "messages": [ASKED, *messages], "tools": TOOLS, **fields}
    message: dict[str, Any] = json.loads(ChatAnswer(body, 1, 1).json())["choices"][0]["message"]
    return message


def results(*texts: str) -> list[dict[str, Any]]:
    return [{"role": "tool", "tool_call_id": f"call_{n}", "content": text} for n, text in enumerate(texts)]


def names(message: dict[str, Any]) -> list[str]:
    return [call["function"]["name"] for call in message.get("tool_calls", ())]


def test_script_starts_with_its_first_turn() -> None:
    message = turn()
    assert message["content"] == "I read."
    [call] = message["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"path": "a"}


def test_script_waits_for_each_result_of_a_turn() -> None:
    assert names(turn(*results("1"))) == ["edit", "run"]
    assert names(turn(*results("1", "2"))) == ["edit", "run"]
    assert turn(*results("1", "2", "3"))["content"] == "It printed 3."
    assert turn(*results("1", "2", "3", "4"))["content"] == "It printed 4."


def test_script_call_ids_differ_between_turns() -> None:
    """A client joins calls and results by id, so an id must not repeat in a session."""
    first, second = turn(seed=1)["tool_calls"], turn(*results("1"), seed=1)["tool_calls"]
    assert len({call["id"] for call in (*first, *second)}) == 3


def test_script_of_latest_message_is_played() -> None:
    parts = [{"type": "text", "text": text} for text in ("a reminder", 'script:[{"text": "b"}]')]
    again = {"role": "user", "content": parts}
    assert turn(*results("1"), again)["content"] == "b"
    assert names(turn(*results("1"), {"role": "user", "content": "a reminder"})) == ["edit", "run"]


def test_script_without_tools_is_not_played() -> None:
    assert str(turn(tools=[])["content"]).startswith("You said: script:")


@pytest.mark.parametrize("script", ["", "{}", "[]", "[1]", '[{"calls": "x"}]', '[{"calls": [{}]}]'])
def test_malformed_script_is_refused(script: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": f"script:{script}"}], "tools": TOOLS}
    with pytest.raises(InvalidRequestError, match="script"):
        ChatAnswer(body, 1, 1)


def test_script_plays_in_anthropic_format() -> None:
    """Claude Code sends a system message between others."""
    body: dict[str, Any] = {
        "model": "m", "max_tokens": 9, "tools": [{"name": "read", "input_schema": {"type": "object"}}],
        "messages": [ASKED, {"role": "system", "content": "a reminder"}],
    }  # fmt: skip
    with pytest.raises(InvalidRequestError, match="unexpected role"):
        MessageAnswer(body, 1)
    first = json.loads(MessageAnswer(body, 1, SYSTEM_BETA).json())
    assert first["stop_reason"] == "tool_use"
    assert [block["type"] for block in first["content"]] == ["text", "tool_use"]
    result = {"type": "tool_result", "tool_use_id": first["content"][1]["id"], "content": "1"}
    said = [{"role": "assistant", "content": first["content"]}, {"role": "user", "content": [result]}]
    second = json.loads(MessageAnswer({**body, "messages": [*body["messages"], *said]}, 2, SYSTEM_BETA).json())
    assert [block["name"] for block in second["content"]] == ["edit", "run"]


def test_script_plays_in_responses_format() -> None:
    """A custom tool gets its text; the script counts its outputs too."""
    calls = [{"name": "patch", "arguments": "*** Begin"}]
    body: dict[str, Any] = {
        "model": "m", "tools": [{"type": "custom", "name": "patch"}], "store": False,
        "input": [{"role": "user", "content": f"script:{json.dumps([{'calls': calls}, {'text': 'It is {result}.'}])}"}],
    }  # fmt: skip
    [call] = json.loads(ResponsesAnswer(body, 1, 1, ResponseStore()).json())["output"]
    assert (call["type"], call["input"]) == ("custom_tool_call", "*** Begin")
    output = {"type": "custom_tool_call_output", "call_id": call["call_id"], "output": "done"}
    more = {**body, "input": [*body["input"], call, output]}
    [message] = json.loads(ResponsesAnswer(more, 2, 1, ResponseStore()).json())["output"]
    assert message["content"][0]["text"] == "It is done."
