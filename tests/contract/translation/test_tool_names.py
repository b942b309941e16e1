"""Names of tools that a provider does not accept reach it in another form, and the client gets its own name back."""

import re
from typing import Any

import pytest

from platform_app.llm.providers.tools.names import tool_names
from platform_app.llm.translation.function_fields import MAX_WITH_NAMESPACE
from tests.support.documents.compatibility.features import SCHEMA
from tests.support.gateway.chat_routes import CHAT, CLIENT_ROUTES, RESPONSES, ChatRoute
from tests.support.gateway.in_process.gateway import WIRES, InProcessGateway
from tests.support.gateway.in_process.generated import Generated, Segment, events_of, whole_of
from tests.support.gateway.in_process.provider import Script, json_script
from tests.support.providers.streams.rebuilt import message_in, message_of_stream

LONG = "mcp__company_wide_issue_tracker__" + "search_issues_" * 9
NAMES = (LONG, f"{LONG}2", "files/read.text", "mcp.server:tool", "wetter_für_städte", "weather")
NATIVE = {("chat", "openai"), ("chat", "azure"), ("responses", "openai-responses"), ("messages", "anthropic")}
CELLS = [(route, wire) for route in CLIENT_ROUTES for wire in WIRES if (route.name, wire) not in NATIVE]
ACCEPTED = {"anthropic": re.compile(r"[a-zA-Z0-9_-]{1,128}")}
OPENAI = re.compile(r"[a-zA-Z0-9_-]{1,64}")
ARGUMENTS = '{"city": "Rome"}'


def request_of(route: ChatRoute, chosen: str) -> dict[str, Any]:
    """Return a request that has all tools, has called one and must call it again."""
    match route.name:
        case "chat":
            call = {"id": "call_1", "type": "function", "function": {"name": chosen, "arguments": ARGUMENTS}}
            return {
                "messages": [
                    {"role": "user", "content": "Weather?"},
                    {"role": "assistant", "content": None, "tool_calls": [call]},
                    {"role": "tool", "tool_call_id": "call_1", "content": "Sunny"},
                ],
                "tools": [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in NAMES],
                "tool_choice": {"type": "function", "function": {"name": chosen}},
            }
        case "responses":
            return {
                "input": [
                    {"role": "user", "content": "Weather?"},
                    {"type": "function_call", "call_id": "call_1", "name": chosen, "arguments": ARGUMENTS},
                    {"type": "function_call_output", "call_id": "call_1", "output": "Sunny"},
                ],
                "tools": [{"type": "function", "name": name, "parameters": SCHEMA} for name in NAMES],
                "tool_choice": {"type": "function", "name": chosen},
            }
        case _:
            used = {"type": "tool_use", "id": "toolu_1", "name": chosen, "input": {"city": "Rome"}}
            result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Sunny"}
            return {
                "messages": [
                    {"role": "user", "content": "Weather?"},
                    {"role": "assistant", "content": [used]},
                    {"role": "user", "content": [result]},
                ],
                "tools": [{"name": name, "input_schema": SCHEMA} for name in NAMES],
                "tool_choice": {"type": "tool", "name": chosen},
            }


def sent_names(wire: str, body: dict[str, Any]) -> tuple[list[str], str, str]:
    """Return the names that the provider got: of the tools, the called one and the chosen one."""
    match wire:
        case "anthropic":
            called = next(block["name"] for block in body["messages"][1]["content"] if block["type"] == "tool_use")
            return [tool["name"] for tool in body["tools"]], called, body["tool_choice"]["name"]
        case "openai-responses":
            called = next(item["name"] for item in body["input"] if item.get("type") == "function_call")
            return [tool["name"] for tool in body["tools"]], called, body["tool_choice"]["name"]
        case _:
            called = body["messages"][1]["tool_calls"][0]["function"]["name"]
            chosen = body["tool_choice"]["function"]["name"]
            return [tool["function"]["name"] for tool in body["tools"]], called, chosen


@pytest.mark.parametrize(("route", "wire"), CELLS, ids=[f"{route.name}-{wire}" for route, wire in CELLS])
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_odd_tool_names_are_mapped_and_restored(route: ChatRoute, wire: str, stream: bool) -> None:
    for name in NAMES:
        gateway = InProcessGateway(wire)
        asked = {**route.body(model="m", max_tokens=4096, stream=stream), **request_of(route, name)}
        plain = Generated((Segment("text", ("Hi",)),), (0,))
        script = Script(events_of(wire, plain), b"text/event-stream") if stream else json_script(whole_of(wire, plain))
        assert (await gateway.ask(route.path, asked, script, route.headers)).status == 200
        listed, called, chosen = sent_names(wire, gateway.provider.received[-1].body)
        assert all(ACCEPTED.get(wire, OPENAI).fullmatch(each) for each in listed), listed
        assert len(set(listed)) == len(NAMES)
        assert listed[-1] == "weather"
        assert called == chosen == listed[NAMES.index(name)]
        calls = Generated(
            (Segment("text", ("Hi",)), Segment("call", (ARGUMENTS[:5], ARGUMENTS[5:]), called)), (0, 1, 1)
        )
        script = Script(events_of(wire, calls), b"text/event-stream") if stream else json_script(whole_of(wire, calls))
        reply = await gateway.ask(route.path, asked, script, route.headers)
        assert gateway.provider.received[0].body == gateway.provider.received[1].body
        read = message_of_stream(route, reply.body) if stream else message_in(route, reply.json())
        assert read.calls == ((name, {"city": "Rome"}),)


async def test_long_namespaced_names_are_restored_by_both_names() -> None:
    space, tool = "mcp__issue_tracker_of_the_company", "search_issues_by_label_and_assignee_and_milestone"
    gateway = InProcessGateway("openai")
    tools = [{"type": "namespace", "name": space, "tools": [{"type": "function", "name": tool, "parameters": SCHEMA}]}]
    made = tool_names({"tools": [{"function": {"name": f"{space}__{tool}"}}]}, 64).made[f"{space}__{tool}"]
    calls = Generated((Segment("call", (ARGUMENTS,), made),), (0,))
    reply = await gateway.ask(
        RESPONSES.path, {**RESPONSES.body(model="m"), "tools": tools}, json_script(whole_of("openai", calls))
    )
    item = next(item for item in reply.json()["output"] if item["type"] == "function_call")
    assert (item["namespace"], item["name"]) == (space, tool)


async def test_names_of_the_clients_format_pass_unchanged() -> None:
    gateway = InProcessGateway("openai")
    asked = {**CHAT.body(model="m"), **request_of(CHAT, LONG)}
    await gateway.ask(CHAT.path, asked, json_script(whole_of("openai", Generated((Segment("text", ("Hi",)),), (0,)))))
    assert gateway.provider.received[0].body["tools"] == asked["tools"]


def test_mapped_name_never_meets_another_tools_name() -> None:
    made = tool_names({"tools": [{"function": {"name": LONG}}]}, 64).made[LONG]
    both = tool_names({"tools": [{"function": {"name": LONG}}, {"function": {"name": made}}]}, 64).made
    assert both[LONG] != made
    assert len(both[LONG]) <= 64


@pytest.mark.parametrize(("route", "wire"), CELLS, ids=[f"{route.name}-{wire}" for route, wire in CELLS])
async def test_name_that_is_far_too_long_is_refused(route: ChatRoute, wire: str) -> None:
    """Each call of the response would repeat it."""
    gateway = InProcessGateway(wire)
    asked = {**route.body(model="m", max_tokens=4096), **request_of(route, "." + "a" * MAX_WITH_NAMESPACE)}
    plain = Generated((Segment("text", ("Hi",)),), (0,))
    reply = await gateway.ask(route.path, asked, json_script(whole_of(wire, plain)), route.headers)
    assert reply.status == 400
    assert f"must be at most {MAX_WITH_NAMESPACE} characters".encode() in reply.body
    assert len(reply.body) < 1_000
    assert gateway.provider.received == []
