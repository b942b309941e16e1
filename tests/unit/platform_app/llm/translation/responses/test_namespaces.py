"""Tools in namespaces, as Codex sends them, over providers that speak chat completions."""

import json
from typing import Any

from platform_app.llm.responses import ModelResponse
from platform_app.llm.translation.responses.envelope import Envelope
from platform_app.llm.translation.responses.namespaces import names_by_flat_name
from platform_app.llm.translation.responses.request import chat_of_responses
from platform_app.llm.translation.responses.response import response_of_chat

SPAWN = {"type": "function", "name": "spawn", "parameters": {"type": "object"}, "strict": False}
TOOLS = [
    {"type": "namespace", "name": "team", "description": "Helpers.", "tools": [SPAWN]},
    {"type": "tool_search", "execution": "client", "parameters": {}},
    {"type": "function", "name": "spawn", "parameters": {"type": "object"}},
]


def ask(*items: dict[str, Any]) -> dict[str, Any]:
    return {"model": "m", "input": [{"role": "user", "content": "hi"}, *items], "tools": TOOLS}


def test_namespace_becomes_part_of_the_name() -> None:
    """A client's search for tools is left out, since the request lists them."""
    names = [tool["function"]["name"] for tool in chat_of_responses(ask())["tools"]]
    assert names == ["team__spawn", "spawn"]


def test_namespace_without_a_name_has_no_tools() -> None:
    assert names_by_flat_name([{"type": "namespace", "tools": [SPAWN]}, *TOOLS]) == {"team__spawn": ("team", "spawn")}


def test_call_in_input_keeps_its_namespace() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "spawn", "arguments": "{}", "namespace": "team"}
    output = {"type": "function_call_output", "call_id": "c", "output": "done"}
    assistant = chat_of_responses(ask(call, output))["messages"][1]
    assert assistant["tool_calls"][0]["function"]["name"] == "team__spawn"


def test_call_in_response_gets_its_namespace_back() -> None:
    def called(name: str) -> dict[str, Any]:
        function = {"name": name, "arguments": "{}"}
        message = {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": function}]}
        body = {"choices": [{"message": message, "finish_reason": "tool_calls"}]}
        completion = ModelResponse(json.dumps(body).encode(), body)
        [item] = response_of_chat(completion, Envelope(ask(), "m"), None)["output"]
        return {name: item.get(name) for name in ("namespace", "name")}

    assert called("team__spawn") == {"namespace": "team", "name": "spawn"}
    assert called("spawn") == {"namespace": None, "name": "spawn"}
    assert called("other__spawn") == {"namespace": None, "name": "other__spawn"}
