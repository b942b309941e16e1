"""What Codex 0.171.0 sends over each provider format, with its default configuration.

The requests are recorded and shortened. Codex declares other tools for the models that it knows by name.
"""

from typing import Any

import pytest

from tests.support.gateway.chat_routes import RESPONSES
from tests.support.gateway.in_process.gateway import WIRES, InProcessGateway
from tests.support.gateway.in_process.generated import Generated, Segment, events_of
from tests.support.gateway.in_process.provider import Script
from tests.support.providers.streams.responses_grammar import check_stream

SCHEMA = {
    "type": "object",
    "properties": {"cmd": {"type": "string"}},
    "required": ["cmd"],
    "additionalProperties": False,
}
EXEC = {"type": "function", "name": "exec_command", "description": "Runs.", "strict": False, "parameters": SCHEMA}
SPACE = {"type": "namespace", "name": "multi_agent_v1", "description": "Agents.", "tools": [{**EXEC, "name": "close"}]}
PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: begin_patch"},
}
SEARCH_TOOLS = {"type": "tool_search", "execution": "client", "description": "Finds tools.", "parameters": SCHEMA}
THREAD = "01a21cee-2900-7de0-aceb-355dc3769c65"


def developer(text: str) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return {"type": "message", "id": f"msg_{THREAD}", "role": "developer", "content": content}


BASE: dict[str, Any] = {
    "model": "m",
    "input": [developer("You are Codex."), {**developer("Say hi."), "role": "user"}],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": THREAD,
    "client_metadata": {"thread_id": THREAD},
}
WEB_SEARCH = {"type": "web_search", "external_web_access": True}
REQUESTS: dict[str, dict[str, Any]] = {
    "gpt-5.5": {
        **BASE,
        "reasoning": {"effort": "medium"},
        "text": {"verbosity": "low"},
        "tools": [EXEC, PATCH, SEARCH_TOOLS, {**WEB_SEARCH, "search_content_types": ["text", "image"]}],
    },
    "a model that it does not know": {
        **BASE, "reasoning": {"summary": "auto"}, "tools": [EXEC, SPACE, WEB_SEARCH],
    },
}  # fmt: skip
CALLED = Generated((Segment("text", ("Hi",)), Segment("call", ('{"cmd": "ls"}',), "exec_command")), (0, 1))
HEADERS = {"session-id": THREAD, "originator": "codex_exec"}


def names_in(body: dict[str, Any]) -> list[str]:
    """Return the names of the tools that a provider got; the type of a tool without one."""
    inner = [tool.get("function") or tool.get("custom") or tool for tool in body["tools"]]
    return [tool.get("name") or tool["type"] for tool in inner]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("model", REQUESTS)
async def test_codex_works_over_every_provider(model: str, wire: str) -> None:
    gateway = InProcessGateway(wire, "claude-sonnet-4-5" if wire == "anthropic" else "gpt-5")
    script = Script(events_of(wire, CALLED), b"text/event-stream")
    reply = await gateway.ask(RESPONSES.path, REQUESTS[model], script, HEADERS)
    assert reply.status == 200, reply.body
    response = check_stream(reply.body).response
    assert [item["name"] for item in response["output"] if item["type"] == "function_call"] == ["exec_command"]
    names = names_in(gateway.provider.received[0].body)
    assert "web_search" not in names
    own = (
        ["apply_patch"]
        if model == "gpt-5.5"
        else ["multi_agent_v1" if wire == "openai-responses" else "multi_agent_v1__close"]
    )
    assert [name for name in names if name != "tool_search"] == ["exec_command", *own]


@pytest.mark.parametrize("model", REQUESTS)
async def test_allowed_web_search_passes(model: str) -> None:
    gateway = InProcessGateway("openai-responses", "gpt-5", allow_fields=["tools.web_search"])
    script = Script(events_of("openai-responses", CALLED), b"text/event-stream")
    await gateway.ask(RESPONSES.path, REQUESTS[model], script, HEADERS)
    assert gateway.provider.received[0].body["tools"] == REQUESTS[model]["tools"]


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [WEB_SEARCH]},
        {"tools": [EXEC, WEB_SEARCH], "tool_choice": "required"},
        {"tools": [EXEC, WEB_SEARCH], "tool_choice": {"type": "web_search"}},
        {"tools": [EXEC, WEB_SEARCH, {"type": "mcp", "server_label": "a"}]},
    ],
    ids=["alone", "any tool is required", "it is chosen", "beside another hosted tool"],
)
async def test_web_search_that_is_more_than_an_offer_is_refused(fields: dict[str, Any]) -> None:
    gateway = InProcessGateway("openai-responses")
    reply = await gateway.ask(RESPONSES.path, {**RESPONSES.body(model="m"), **fields}, None)
    assert reply.status == 400
    assert not gateway.provider.received
    assert reply.json()["error"]["param"] in ("tools.web_search", "tools.mcp")


@pytest.mark.parametrize("wire", WIRES)
async def test_tools_that_an_item_adds_are_declared(wire: str) -> None:
    """Codex adds the tools of servers that it has found since the session began."""
    added = {"type": "additional_tools", "role": "developer", "tools": [EXEC, SPACE]}
    asked = {**BASE, "input": [*BASE["input"], added], "tools": [EXEC, PATCH]}
    gateway = InProcessGateway(wire)
    named = "close" if wire == "openai-responses" else "multi_agent_v1__close"
    made = Generated((Segment("call", ('{"cmd": "ls"}',), named),), (0,))
    script = Script(events_of(wire, made), b"text/event-stream")
    reply = await gateway.ask(RESPONSES.path, asked, script, HEADERS)
    assert reply.status == 200, reply.body
    received = gateway.provider.received[0].body
    if wire == "openai-responses":
        assert received["input"][-1] == added
        return
    assert names_in(received) == ["exec_command", "apply_patch", "multi_agent_v1__close"]
    [call] = [item for item in check_stream(reply.body).response["output"] if item["type"] == "function_call"]
    assert (call["namespace"], call["name"]) == ("multi_agent_v1", "close")
