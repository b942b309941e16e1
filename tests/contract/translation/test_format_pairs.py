"""What an agent sends and gets where its format and the provider's differ: results with images, documents, thinking,
parallel calls, the reasons why a response ends, and streams whose content alternates."""

import json
from typing import Any

import pytest

from tests.support.documents.compatibility.features import IMAGE_URL, PDF, PNG, SCHEMA
from tests.support.gateway.chat_routes import MESSAGES, RESPONSES, ChatRoute
from tests.support.gateway.in_process.gateway import InProcessGateway
from tests.support.gateway.in_process.generated import Generated, Segment, events_of, whole_of
from tests.support.gateway.in_process.provider import Script, json_script
from tests.support.providers.streams.rebuilt import message_in, message_of_stream

HI = Generated((Segment("text", ("Hi",)),), (0,))
CELLS = [(RESPONSES, "openai"), (RESPONSES, "azure"), (RESPONSES, "anthropic"), (MESSAGES, "openai"),
         (MESSAGES, "azure"), (MESSAGES, "openai-responses")]  # fmt: skip
over_cells = pytest.mark.parametrize(("route", "wire"), CELLS, ids=[f"{route.name}-{wire}" for route, wire in CELLS])
DATA_URL = f"data:image/png;base64,{PNG}"


async def sent(route: ChatRoute, wire: str, **fields: Any) -> dict[str, Any]:
    """Return the request that the provider got."""
    gateway = InProcessGateway(wire, "claude-sonnet-4-5" if wire == "anthropic" else "gpt-5")
    asked = {**route.body(model="m", max_tokens=4096), **fields}
    reply = await gateway.ask(route.path, asked, json_script(whole_of(wire, HI)), route.headers)
    assert reply.status == 200, reply.body
    return gateway.provider.received[-1].body


RESPONSES_TURNS = {
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Look."}]},
        {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"},
        {"type": "function_call", "call_id": "call_2", "name": "look", "arguments": '{"at": 2}'},
        {
            "type": "function_call_output",
            "call_id": "call_1",
            "output": [{"type": "input_text", "text": "A cat."}, {"type": "input_image", "image_url": DATA_URL}],
        },
        {
            "type": "function_call_output",
            "call_id": "call_2",
            "output": [{"type": "input_image", "image_url": IMAGE_URL}],
        },
    ],
    "tools": [{"type": "function", "name": "look", "parameters": SCHEMA}],
}
MESSAGES_TURNS = {
    "messages": [
        {"role": "user", "content": "Look."},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}},
                {"type": "tool_use", "id": "toolu_2", "name": "look", "input": {"at": 2}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [
                        {"type": "text", "text": "A cat."},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                    ],
                },
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_2",
                    "is_error": True,
                    "content": [{"type": "image", "source": {"type": "url", "url": IMAGE_URL}}],
                },
                {
                    "type": "document",
                    "title": "Manual",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                },
            ],
        },
    ],
    "tools": [{"name": "look", "input_schema": SCHEMA}],
}


@pytest.mark.parametrize("wire", ["openai", "azure"])
async def test_images_of_results_move_behind_the_results_of_a_chat(wire: str) -> None:
    """OpenAI's chat completions refuse an image in a result; Codex sends one for each image that it views."""
    messages = (await sent(RESPONSES, wire, **RESPONSES_TURNS))["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool", "user"]
    assert [call["id"] for call in messages[1]["tool_calls"]] == ["call_1", "call_2"]
    assert messages[2]["content"][0] == {"type": "text", "text": "A cat."}
    assert isinstance(messages[3]["content"], str)
    images = [part["image_url"]["url"] for part in messages[4]["content"] if part["type"] == "image_url"]
    assert images == [DATA_URL, IMAGE_URL]


async def test_images_of_results_stay_in_the_results_of_anthropic() -> None:
    turns = (await sent(RESPONSES, "anthropic", **RESPONSES_TURNS))["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    first, second = turns[2]["content"]
    assert [block["type"] for block in first["content"]] == ["text", "image"]
    assert first["content"][1]["source"] == {"type": "base64", "media_type": "image/png", "data": PNG}
    assert second["content"] == [{"type": "image", "source": {"type": "url", "url": IMAGE_URL}}]


async def test_results_and_documents_become_items_of_responses() -> None:
    items = (await sent(MESSAGES, "openai-responses", **MESSAGES_TURNS))["input"]
    kinds = [item.get("type") or item["role"] for item in items]
    assert kinds == ["user", *["function_call"] * 2, *["function_call_output"] * 2, "user"]
    assert [json.loads(item["arguments"]) for item in items[1:3]] == [{}, {"at": 2}]
    assert "Error" in json.dumps(items[4]["output"])
    parts = items[5]["content"]
    assert [part["image_url"] for part in parts if part["type"] == "input_image"] == [DATA_URL, IMAGE_URL]
    file = next(part for part in parts if part["type"] == "input_file")
    assert (file["filename"], file["file_data"]) == ("Manual", f"data:application/pdf;base64,{PDF}")


@pytest.mark.parametrize("wire", ["openai", "azure", "openai-responses"])
async def test_empty_turns_of_messages_are_sent_as_empty_texts(wire: str) -> None:
    body = await sent(MESSAGES, wire, messages=[{"role": "user", "content": []}, {"role": "user", "content": "Hi"}])
    assert [] not in [turn["content"] for turn in body.get("messages") or body["input"]]


@over_cells
async def test_thinking_is_sent_back_to_its_provider(route: ChatRoute, wire: str) -> None:
    """Thinking comes first, unchanged, and before the call that it led to."""
    made = Generated((Segment("thought", ("Hm",)), Segment("call", ("{}",), "look")), (0, 1))
    gateway = InProcessGateway(wire, "claude-sonnet-4-5" if wire == "anthropic" else "gpt-5")
    asked: dict[str, Any] = {**route.body(model="m", max_tokens=4096)}
    turns = RESPONSES_TURNS if route is RESPONSES else MESSAGES_TURNS
    asked["tools"] = turns["tools"]
    reply = await gateway.ask(route.path, asked, json_script(whole_of(wire, made)), route.headers)
    body = reply.json()
    if route is RESPONSES:
        called = next(item for item in body["output"] if item["type"] == "function_call")
        result = {"type": "function_call_output", "call_id": called["call_id"], "output": "A cat."}
        asked["input"] = [{"role": "user", "content": "Look."}, *body["output"], result]
    else:
        called = next(block for block in body["content"] if block["type"] == "tool_use")
        result = {"type": "tool_result", "tool_use_id": called["id"], "content": "A cat."}
        turn = {"role": "assistant", "content": body["content"]}
        asked["messages"] = [{"role": "user", "content": "Look."}, turn, {"role": "user", "content": [result]}]
    assert (await gateway.ask(route.path, asked, None, route.headers)).status == 200
    got = gateway.provider.received[-1].body
    match wire:
        case "anthropic":
            thought, call = got["messages"][1]["content"]
            assert (thought["type"], thought["thinking"], call["type"]) == ("thinking", "Hm", "tool_use")
        case "openai-responses":
            assert [item.get("type") for item in got["input"][1:3]] == ["reasoning", "function_call"]
        case _:
            assert got["messages"][1]["reasoning_content"] == "Hm"


def _incomplete(reason: str) -> dict[str, Any]:
    return {"status": "incomplete", "incomplete_details": {"reason": reason}}


ENDS: list[tuple[str, dict[str, Any], str, str]] = [
    ("anthropic", {"stop_reason": "end_turn"}, "completed", ""),
    ("anthropic", {"stop_reason": "stop_sequence", "stop_sequence": "END"}, "completed", ""),
    ("anthropic", {"stop_reason": "pause_turn"}, "completed", ""),
    ("anthropic", {"stop_reason": "max_tokens"}, "incomplete", "max_output_tokens"),
    ("anthropic", {"stop_reason": "model_context_window_exceeded"}, "incomplete", "max_output_tokens"),
    ("anthropic", {"stop_reason": "refusal"}, "incomplete", "content_filter"),
    ("anthropic", {"stop_reason": "something_new"}, "completed", ""),
    ("openai", {"finish_reason": "stop"}, "completed", "end_turn"),
    ("openai", {"finish_reason": "length"}, "incomplete", "max_tokens"),
    ("openai", {"finish_reason": "content_filter"}, "incomplete", "refusal"),
    ("azure", {"finish_reason": "something_new"}, "completed", "end_turn"),
    ("openai-responses", {"status": "completed"}, "", "end_turn"),
    ("openai-responses", _incomplete("max_output_tokens"), "", "max_tokens"),
    ("openai-responses", _incomplete("content_filter"), "", "refusal"),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "end", "status", "stop"), ENDS, ids=[f"{end[0]}-{end[1]}" for end in ENDS])
async def test_end_of_a_response_has_the_clients_reason(wire: str, end: dict[str, Any], status: str, stop: str) -> None:
    body = whole_of(wire, HI)
    if "finish_reason" in end:
        body["choices"][0].update(end)
    else:
        body.update(end)
    gateway = InProcessGateway(wire)
    if wire != "openai-responses":
        reply = (await gateway.ask(RESPONSES.path, RESPONSES.body(model="m"), json_script(body))).json()
        reason = (reply["incomplete_details"] or {}).get("reason")
        assert reply["status"] == status
        assert status != "incomplete" or reason is not None
        assert wire != "anthropic" or (reason or "") == stop
    if wire != "anthropic":
        reply = (await gateway.ask(MESSAGES.path, MESSAGES.body(model="m"), json_script(body), MESSAGES.headers)).json()
        assert reply["stop_reason"] == stop


REFUSED = {
    "openai": {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "refusal": "No."}}]},
    "openai-responses": {
        "id": "r", "object": "response", "status": "completed", "model": "up",
        "output": [{"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}],
    },
}  # fmt: skip


@pytest.mark.parametrize("wire", REFUSED)
async def test_refusal_reaches_a_messages_client_as_refusal(wire: str) -> None:
    gateway = InProcessGateway(wire)
    script = json_script(REFUSED[wire])
    reply = (await gateway.ask(MESSAGES.path, MESSAGES.body(model="m"), script, MESSAGES.headers)).json()
    assert (reply["content"], reply["stop_reason"]) == ([{"type": "text", "text": "No."}], "refusal")


@pytest.mark.parametrize(
    ("route", "wire", "tool", "named"),
    [
        (MESSAGES, "openai-responses", {"type": "web_search_20250305", "name": "web_search"}, "tools.0.type"),
        (MESSAGES, "openai", {"type": "bash_20250124", "name": "bash"}, "tools.0.type"),
        (RESPONSES, "anthropic", {"type": "web_search"}, "tools.web_search"),
        (RESPONSES, "azure", {"type": "mcp", "server_label": "a"}, "tools.mcp"),
    ],
)
async def test_allowed_hosted_tool_of_another_format_is_refused(
    route: ChatRoute, wire: str, tool: dict[str, Any], named: str
) -> None:
    gateway = InProcessGateway(wire, allow_fields=[f"tools.{tool['type']}"])
    reply = await gateway.ask(route.path, {**route.body(model="m"), "tools": [tool]}, None, route.headers)
    assert reply.status == 400
    assert not gateway.provider.received
    assert named in reply.json()["error"]["message"]


@over_cells
async def test_alternating_stream_is_the_message_of_the_json_form(route: ChatRoute, wire: str) -> None:
    """Two texts with calls between them, whose arguments arrive in turns where the provider's format allows that."""
    segments = (
        Segment("text", ("I ", "look. ")), Segment("call", ('{"a":', "1}"), "look"), Segment("call", ("{", "}"), "see"),
        Segment("text", ("And ", "on.")),
    )  # fmt: skip
    order = (0, 0, 1, 1, 2, 2, 3, 3) if wire == "anthropic" else (0, 1, 2, 1, 2, 0, 3, 3)
    made = Generated(segments, order)
    gateway = InProcessGateway(wire)
    asked = {**route.body(model="m", stream=True)}
    script = Script(events_of(wire, made), b"text/event-stream")
    read = message_of_stream(route, (await gateway.ask(route.path, asked, script, route.headers)).body)
    assert read.calls == (("look", {"a": 1}), ("see", {}))
    assert sorted(read.text.split()) == ["And", "I", "look.", "on."]
    whole = await gateway.ask(route.path, route.body(model="m"), json_script(whole_of(wire, made)), route.headers)
    assert message_in(route, whole.json()).calls == read.calls


@over_cells
async def test_response_without_content_is_complete(route: ChatRoute, wire: str) -> None:
    empty = Generated((Segment("text", ("",)),), (0,))
    gateway = InProcessGateway(wire)
    whole = await gateway.ask(route.path, route.body(model="m"), json_script(whole_of(wire, empty)), route.headers)
    assert (whole.status, message_in(route, whole.json()).text) == (200, "")
    script = Script(events_of(wire, empty), b"text/event-stream")
    streamed = await gateway.ask(route.path, route.body(model="m", stream=True), script, route.headers)
    assert message_of_stream(route, streamed.body).text == ""
