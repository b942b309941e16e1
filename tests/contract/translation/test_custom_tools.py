"""Custom tools, such as Codex's `apply_patch`, over a provider that has functions alone."""

import json
from typing import Any

import pytest

from platform_app.config import ProviderConfig
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.errors import UnusableOutput
from platform_app.llm.http.response import ProviderLimits
from platform_app.llm.policies.failure_table import Health, failure_policy_of
from platform_app.llm.providers.factory import make_adapter
from platform_app.llm.requests import UpstreamCall
from tests.support.gateway.chat_routes import CHAT, RESPONSES, ChatRoute
from tests.support.gateway.in_process.gateway import InProcessGateway
from tests.support.gateway.in_process.generated import Generated, Segment, events_of, whole_of
from tests.support.gateway.in_process.provider import Script, ScriptedPool, json_script
from tests.support.providers.streams.responses_grammar import check_stream

PATCH = '*** Begin Patch\n*** Update File: "a"\n+ünï\\x\n*** End Patch\n'
GRAMMAR = 'start: "*** Begin Patch" LF'
TOOLS = [
    {
        "type": "custom",
        "name": "apply_patch",
        "description": "Edits files.",
        "format": {"type": "grammar", "syntax": "lark", "definition": GRAMMAR},
    },
    {"type": "function", "name": "shell", "parameters": {"type": "object", "properties": {}}},
]
TURNS = [
    {"role": "user", "content": "Edit."},
    {"type": "custom_tool_call", "call_id": "call_1", "name": "apply_patch", "input": PATCH},
    {"type": "custom_tool_call_output", "call_id": "call_1", "output": "Done."},
]
WRITTEN = json.dumps({"input": PATCH})
CALLS = Generated(
    (
        Segment("text", ("I edit.",)),
        Segment("call", (WRITTEN[:20], WRITTEN[20:41], WRITTEN[41:]), "apply_patch"),
        Segment("call", ("{", "}"), "shell"),
        Segment("call", (WRITTEN,), "apply_patch"),
    ),
    (0, 1, 1, 1, 2, 2, 3),
)


async def ask(
    route: ChatRoute, made: Generated, *, stream: bool = False, **fields: Any
) -> tuple[bytes, dict[str, Any]]:
    """Return the response, and the request that the provider got."""
    gateway = InProcessGateway("anthropic", "claude-sonnet-4-5")
    wire = "anthropic"
    script = Script(events_of(wire, made), b"text/event-stream") if stream else json_script(whole_of(wire, made))
    reply = await gateway.ask(route.path, {**route.body(model="m"), **fields, "stream": stream}, script, route.headers)
    assert reply.status == 200, reply.body
    return reply.body, gateway.provider.received[0].body


async def test_custom_tool_reaches_anthropic_as_a_function() -> None:
    choice = {"type": "custom", "name": "apply_patch"}
    _, sent = await ask(RESPONSES, CALLS, input=TURNS, tools=TOOLS, tool_choice=choice)
    patch, shell = sent["tools"]
    assert (patch["name"], shell["name"], sent["tool_choice"]["name"]) == ("apply_patch", "shell", "apply_patch")
    assert patch["input_schema"]["required"] == ["input"]
    assert patch["description"].startswith("Edits files.")
    assert GRAMMAR in patch["description"]
    [called] = sent["messages"][1]["content"]
    assert (called["type"], called["input"]) == ("tool_use", {"input": PATCH})


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_call_of_a_custom_tool_is_restored(stream: bool) -> None:
    raw, _ = await ask(RESPONSES, CALLS, stream=stream, tools=TOOLS)
    response = check_stream(raw).response if stream else json.loads(raw)
    calls = [item for item in response["output"] if item["type"].endswith("_call")]
    assert [(item["type"], item["name"]) for item in calls] == [
        ("custom_tool_call", "apply_patch"), ("function_call", "shell"), ("custom_tool_call", "apply_patch"),
    ]  # fmt: skip
    assert calls[0]["input"] == calls[2]["input"] == PATCH
    assert calls[1]["arguments"] == "{}"


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_custom_call_of_a_chat_client_is_restored(stream: bool) -> None:
    custom = {"type": "custom", "custom": {"name": "apply_patch"}}
    made = Generated((Segment("call", (WRITTEN,), "apply_patch"),), (0,))
    raw, _ = await ask(CHAT, made, stream=stream, tools=[custom])
    assert json.dumps(PATCH) in raw.decode().replace(json.dumps(PATCH, ensure_ascii=False), json.dumps(PATCH))
    assert b'"type":"custom"' in raw


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("written", ['{"input": 5}', '{"input": {}}', '{"input": null}', "[1]"])
async def test_input_other_than_text_counts_for_no_breaker(written: str, stream: bool) -> None:
    """A prompt can make the model write it, so it neither is retried nor counts for the route's health."""
    if not stream and written == "[1]":
        written = '{"input": [1]}'  # Anthropic's JSON has objects alone
    made = Generated((Segment("call", (written,), "apply_patch"),), (0,))
    script = (
        Script(events_of("anthropic", made), b"text/event-stream")
        if stream
        else json_script(whole_of("anthropic", made))
    )
    pool: Any = ScriptedPool()
    pool.script = script
    config = ProviderConfig.model_validate({"wire_format": "anthropic", "base_url": "http://provider/v1"})
    adapter = make_adapter(config, pool, ProviderLimits(30.0, 30.0, 1 << 25))
    body = {
        "messages": [{"role": "user", "content": "Edit."}],
        "tools": [{"type": "custom", "custom": {"name": "apply_patch"}}],
    }

    async def read() -> None:
        response = await adapter.send(UpstreamCall("claude-sonnet-4-5", body, 60.0, stream=stream), "key")
        assert isinstance(response, ChunkStream)
        async for _ in response:
            pass

    with pytest.raises(UnusableOutput) as caught:
        await read()
    policy = failure_policy_of(caught.value)
    assert (policy.retry, policy.health, caught.value.code) == (False, Health.UNKNOWN, "provider_bad_response")


@pytest.mark.parametrize("cut", [len(WRITTEN) - 9, 14, 3, 0])
async def test_cut_input_is_what_arrived(cut: int) -> None:
    """A response that ends at its limit in the middle of an input is incomplete, as JSON and as a stream."""
    made = Generated((Segment("call", (WRITTEN[:cut],), "apply_patch"),), (0,), cut=True)
    raw, _ = await ask(RESPONSES, made, stream=True, tools=TOOLS)
    response = check_stream(raw).response
    [call] = [item for item in response["output"] if item["type"] == "custom_tool_call"]
    assert response["status"] == "incomplete"
    assert PATCH.startswith(call["input"])
