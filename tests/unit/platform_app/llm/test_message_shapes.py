"""Messages in the shapes that servers give them, for clients of every format."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from apps.platform_api.chat.responses import text_of_content
from platform_app.llm.codecs import lenient_json
from platform_app.llm.responses import ChatChunk, ModelResponse
from platform_app.llm.stream_conversion import assemble_response, split_into_chunks
from platform_app.llm.translation.messages.events import MessageEvents
from platform_app.llm.translation.messages.message import message_json
from platform_app.llm.translation.responses.envelope import Envelope
from platform_app.llm.translation.responses.response import response_of_chat
from platform_app.llm.translation.responses.stream import ResponseWriter

Delta = dict[str, Any]
Calls = list[tuple[str, dict[str, Any]]]


def chunk(delta: Delta, reason: str | None = None, member: str = "delta") -> ChatChunk:
    return ChatChunk(b"", {"id": "c", "choices": [{"index": 0, member: delta, "finish_reason": reason}]})


def call(name: str | None, arguments: object, call_id: str | None = None, index: int | None = 0) -> Delta:
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    numbered = {} if index is None else {"index": index}
    return {"tool_calls": [{**numbered, "id": call_id, "type": "function", "function": function}]}


def to_messages(chunks: Iterable[ChatChunk]) -> Calls:
    writer, events = MessageEvents("m"), []
    for each in chunks:
        events += list(writer.add(each))
    events += list(writer.finish(None))
    names = {event["index"]: event["content_block"]["name"] for event in events if event.get("content_block")}
    texts = dict.fromkeys(names, "")
    for event in events:
        if event["type"] == "content_block_delta":
            texts[event["index"]] += event["delta"]["partial_json"]
    return [(name, json.loads(texts[index])) for index, name in names.items()]


def to_response(chunks: Iterable[ChatChunk]) -> Calls:
    writer = ResponseWriter(Envelope({}, "m"))
    for each in chunks:
        writer.chunk(each)
    writer.finish(None)
    return items(json.loads(lenient_json.dumps(writer.response(None))))


def items(response: dict[str, Any]) -> Calls:
    return [(item["name"], json.loads(item["arguments"])) for item in response["output"]]


def assembled(chunks: Iterable[ChatChunk]) -> Calls:
    response = assemble_response(chunks)
    assert response is not None
    functions = [each["function"] for each in response.message["tool_calls"]]
    return [(each["name"], json.loads(each["arguments"])) for each in functions]


TWO: Calls = [("f", {"a": 1}), ("g", {"b": 2})]
SAME: Calls = [("f", {"a": 1}), ("f", {"b": 2})]
CASES: dict[str, tuple[list[Delta], Calls]] = {
    "ids, all of index 0": ([call("f", '{"a":1}', "x"), call("g", '{"b":2}', "y")], TWO),
    "empty ids, all of index 0": ([call("f", '{"a":1}', ""), call("g", '{"b":2}', "")], TWO),
    "no ids, all of index 0": ([call("f", '{"a":1}'), call("g", '{"b":2}')], TWO),
    "the same function twice": ([call("f", '{"a":1}'), call("f", '{"b":2}')], SAME),
    "no index": ([call("f", '{"a":1}', index=None), call("g", '{"b":2}', index=None)], TWO),
    "ids decide": (
        [
            call("f", "", "x", None), call("g", "", "y", None), call(None, '{"a":1}', "x", None),
            call(None, '{"b":2}', "y", None),
        ],
        TWO,
    ),
    "the id arrives late": ([call("f", ""), call("f", '{"a":1}', "x"), call("g", '{"b":2}', "y", 1)], TWO),
    "the name is repeated": ([call("f", '{"a"'), call("f", ":1}"), call("g", '{"b":2}')], TWO),
    "another id with each delta": ([call("f", '{"a"', "x"), call(None, ":1}", "y"), call("g", '{"b":2}', "z", 1)], TWO),
    "the same id for all": ([call("f", '{"a":1}', "x", 0), call("g", '{"b":2}', "x", 1)], TWO),
    "objects": ([call("f", {"a": 1}, "x"), call("g", {"b": 2}, "y")], TWO),
    "the older form": ([{"function_call": {"name": "f", "arguments": '{"a":1}'}}], TWO[:1]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_parallel_calls_are_separated(case: str) -> None:
    deltas, expected = CASES[case]
    chunks = [*map(chunk, deltas), chunk({}, "tool_calls")]
    assert to_response(chunks) == expected
    assert to_messages(chunks) == expected
    if case != "the older form":
        assert assembled(chunks) == expected


def test_arguments_that_are_objects_are_kept_in_whole_messages() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": call("f", {"a": 1}, "x")["tool_calls"]}
    response = ModelResponse(
        b"", {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    )
    assert items(response_of_chat(response, Envelope({}, "m"), None)) == TWO[:1]
    assert json.loads(message_json(response, "m", None))["content"][0]["input"] == {"a": 1}
    assert to_response(split_into_chunks(response)) == TWO[:1]


@pytest.mark.parametrize(
    "content",
    [
        "Hi", ["Hi"], [{"text": "Hi"}], {"type": "text", "text": "Hi"}, [{"type": "text", "text": {"value": "Hi"}}],
        [{"type": "output_text", "text": "H"}, "i"],
    ],
)  # fmt: skip
def test_content_of_any_shape_reaches_every_client(content: object) -> None:
    message = {"role": "assistant", "content": content}
    response = ModelResponse(b"", {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    assert text_of_content(message["content"]) == "Hi"
    assert json.loads(message_json(response, "m", None))["content"] == [{"type": "text", "text": "Hi"}]
    output = response_of_chat(response, Envelope({}, "m"), None)["output"]
    assert "".join(part["text"] for part in output[0]["content"]) == "Hi"
    assert chunk(message).text == "Hi"


def test_chunk_with_a_message_counts_like_a_delta() -> None:
    given = chunk({"role": "assistant", "content": "four"}, member="message")
    assert (given.text, given.characters, dict(given.delta)) == ("four", 4, {"role": "assistant", "content": "four"})


@pytest.mark.parametrize(
    ("delta", "carries"),
    [
        ({"role": "assistant", "content": [{"type": "text", "text": ""}]}, False),
        ({"role": "assistant", "content": "", "channel": "final", "name": "a"}, False),
        ({"tool_calls": [{"index": 0, "type": "function", "function": {"name": "", "arguments": ""}}]}, False),
        ({"content": "", "reasoning_details": [{"type": "reasoning.text", "text": "", "index": 0}]}, False),
        ({"content": [{"type": "text", "text": "a"}]}, True),
        ({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]}, True),
        ({"audio": {"id": "a"}}, True),
    ],
)
def test_empty_parts_are_no_content(delta: Delta, carries: bool) -> None:
    assert chunk(delta).carries_content is carries


def test_half_an_emoji_in_arguments_is_joined() -> None:
    parts = ['{"a":"', "\ud83d", "\ude00", '"}']
    chunks = [chunk(call("f", part, "x")) for part in parts]
    smile: Calls = [("f", {"a": "\N{GRINNING FACE}"})]
    assert to_messages([*chunks, chunk({}, "tool_calls")]) == smile
    assert to_response([*chunks, chunk({}, "tool_calls")]) == smile
    whole = assemble_response([*chunks, chunk({}, "tool_calls")])
    assert whole is not None
    assert json.loads(message_json(whole, "m", None))["content"][0]["input"] == smile[0][1]
    cut = assemble_response([*chunks[:2], chunk({}, "length")])
    assert cut is not None
    assert json.loads(message_json(cut, "m", None))["stop_reason"] == "max_tokens"
