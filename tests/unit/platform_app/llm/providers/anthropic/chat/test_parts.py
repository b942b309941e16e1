"""The exact translation of parts, schemas, arguments, images and marks (kinds 21, 22, 23, 26, 27 and 28)."""

from typing import Any

import orjson
import pytest

from platform_app.errors import ProviderFailed
from platform_app.llm.codecs.exact_json import is_json_object
from platform_app.llm.providers.anthropic.chat.images import image_source
from platform_app.llm.providers.anthropic.chat.request import messages_request
from platform_app.llm.providers.anthropic.chat.response import read_message
from platform_app.llm.providers.anthropic.chat.schemas import input_schema, output_schema
from platform_app.llm.providers.anthropic.chat.stream import AnthropicEventDecoder

MARK = {"type": "ephemeral", "ttl": "1h"}
TOOLS = [{"type": "function", "function": {"name": "f"}}]
PIXEL = "iVBORw0KGgoAAAANSUhEUg=="


def sent(*messages: dict[str, Any], **body: Any) -> dict[str, Any]:
    request = messages_request("claude", {"messages": list(messages), **body}, stream=False)
    made: dict[str, Any] = orjson.loads(orjson.dumps(request))
    return made


def user(content: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **fields}


def text(value: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": value, **fields}


# --- 21


def test_blank_parts_are_left_out() -> None:
    assert sent(user([text("a"), text(" \n"), text("b ")]))["messages"] == [user([text("a"), text("b ")])]
    assert "system" not in sent({"role": "system", "content": "\t"}, user("a"))


def test_prefill_is_trimmed_only_at_its_end() -> None:
    turns = sent(user("a "), {"role": "assistant", "content": [text("x "), text(" y \n")]})["messages"]
    assert turns == [user([text("a ")]), {"role": "assistant", "content": [text("x "), text(" y")]}]


# --- 22


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (None, {"type": "object", "properties": {}}),
        ({}, {"type": "object", "properties": {}}),
        ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}}),
        ({"type": ["null", "object"], "required": []}, {"type": "object", "required": []}),
        ({"type": "Object"}, {"type": "object"}),
        (
            {"$ref": "#/definitions/A", "definitions": {"A": {"properties": {"b": {"$ref": "#/definitions/A"}}}}},
            {
                "type": "object",
                "properties": {"b": {"$ref": "#/definitions/A"}},
                "definitions": {"A": {"properties": {"b": {"$ref": "#/definitions/A"}}}},
            },
        ),
    ],
)
def test_parameters_become_object_schema(given: Any, made: dict[str, Any]) -> None:
    assert input_schema(given, "here") == made


def test_recursive_parameters_terminate() -> None:
    assert input_schema({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}, "x")["type"] == "object"


# --- 23


def test_unsupported_constraints_move_to_description() -> None:
    given = {
        "type": "object",
        "properties": {
            "age": {"type": "integer", "minimum": 0, "maximum": 150, "description": "In years."},
            "mail": {"type": "string", "format": "email", "pattern": "@"},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 5}, "minItems": 1, "maxItems": 3},
            "kind": {"enum": ["a", "b"], "default": "a"},
            "either": {"oneOf": [{"type": "string"}, {"type": "null"}]},
            "minimum": {"type": "number"},
        },
        "required": ["age"],
        "$schema": "https://json-schema.org/draft/2020-12/schema",
    }
    before = orjson.dumps(given)
    assert output_schema(given, "here") == {
        "type": "object",
        "properties": {
            "age": {"type": "integer", "description": "In years.\n\n{minimum: 0, maximum: 150}"},
            "mail": {"type": "string", "format": "email", "description": '{pattern: "@"}'},
            "tags": {
                "type": "array",
                "items": {"type": "string", "description": "{maxLength: 5}"},
                "minItems": 1,
                "description": "{maxItems: 3}",
            },
            "kind": {"enum": ["a", "b"], "default": "a"},
            "either": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "minimum": {"type": "number"},
        },
        "required": ["age"],
        "additionalProperties": False,
    }
    assert orjson.dumps(given) == before


def test_supported_schema_is_unchanged() -> None:
    given = {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "additionalProperties": False,
             "$defs": {"A": {"type": "string", "format": "date"}}}  # fmt: skip
    assert output_schema(given, "here") == given


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({"allOf": [{"$ref": "#/$defs/A"}], "description": "d", "default": 1}, {"$ref": "#/$defs/A"}),
        ({"$ref": "#/$defs/A", "description": "d"}, {"$ref": "#/$defs/A"}),
        ({"const": {"a": 1}}, {"description": '{const: {"a":1}}'}),
        ({"enum": [[1], 2], "type": "array"}, {"type": "array", "description": "{enum: [[1],2]}"}),
        ({"type": ["string", "null"]}, {"type": ["string", "null"]}),
    ],
)
def test_references_are_separated_from_siblings(given: dict[str, Any], made: dict[str, Any]) -> None:
    assert output_schema(given, "here") == made


# --- 26


@pytest.mark.parametrize(
    "arguments", ['{"id":123456789012345678901}', '{"x":0.10}', '{"x":1e400}', '{"a": [1, {"b": 2.50}]}', '{"é":"ü"}']
)
def test_arguments_are_sent_unchanged(arguments: str) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
    messages = [
        user("x"),
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "y"},
    ]
    request = messages_request("claude", {"messages": messages, "tools": TOOLS}, stream=False)
    assert b'"input":' + arguments.encode() in orjson.dumps(request)


@pytest.mark.parametrize(
    "text", ["", "[]", "5", '"a"', "{", "{'a': 1}", '{"a": NaN}', '{"a": -Infinity}', '{"a":1}x', "{" * 5000]
)
def test_non_object_json_is_detected(text: str) -> None:
    assert not is_json_object(text)


@pytest.mark.parametrize(
    "arguments",
    ["{}", '{"id":123456789012345678901234}', '{"x":0.10,"y":1E5}', '{"a":[1.0,{"b":-9223372036854775809}]}'],
)
def test_arguments_are_received_unchanged(arguments: str) -> None:
    before = (
        '{"type":"message","content":[{"type":"text","text":"1.5"},5,{"type":"tool_use","id":"t","name":"f","input":'
    )
    raw = before + arguments + '}],"usage":{"input_tokens":1,"output_tokens":1}}'
    [call] = read_message(raw.encode()).message["tool_calls"]
    assert call["function"]["arguments"] == arguments

    decoder = AnthropicEventDecoder()
    decoder.decode(b'{"type":"message_start","message":{"id":"m","model":"c"}}')
    start = '{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":'
    decoder.decode(start.encode() + arguments.encode() + b"}}")
    chunk = decoder.decode(b'{"type":"content_block_stop","index":0}')
    assert chunk is not None
    assert chunk.delta["tool_calls"][0]["function"]["arguments"] == arguments


def test_deeply_nested_arguments_are_returned() -> None:
    deep = '{"a":' * 400 + "0.10" + "}" * 400
    raw = '{"type":"message","content":[{"type":"tool_use","id":"t","name":"f","input":%s}]}'.replace("%s", deep)
    try:
        [call] = read_message(raw.encode()).message["tool_calls"]
    except ProviderFailed:
        return
    assert orjson.loads(call["function"]["arguments"]) == orjson.loads(deep)


# --- 27


@pytest.mark.parametrize(
    ("url", "media_type", "data"),
    [
        ("data:image/jpg;base64,AAAA", "image/jpeg", "AAAA"),
        ("data:image/x-png;base64,AAAA", "image/png", "AAAA"),
        ("data:image/webp; charset=binary ;base64,AAAA", "image/webp", "AAAA"),
        ("DATA:image/GIF;name=a.gif;BASE64,AAAA", "image/gif", "AAAA"),
        (f"data:image/jpeg;base64,{PIXEL}", "image/png", PIXEL),
        (f"data:;base64,{PIXEL}", "image/png", PIXEL),
        ("data:image/jpeg;base64,AA%2BA\nAA A=", "image/jpeg", "AA+AAAA="),
    ],
)
def test_image_media_type_is_corrected(url: str, media_type: str, data: str) -> None:
    assert image_source(url, "here") == {"type": "base64", "media_type": media_type, "data": data}


def test_almost_valid_parts_are_accepted() -> None:
    """The URL of an image without its object, as older clients write it; a PDF without `data:`."""
    image = {"type": "image_url", "image_url": "https://a.example/b.png"}
    pdf = {"type": "file", "file": {"file_data": "JVBERi0xLjQ="}}
    assert [block["source"]["type"] for block in sent(user([image, pdf]))["messages"][0]["content"]] == [
        "url",
        "base64",
    ]


# --- 28


def test_cache_control_is_kept_in_any_place() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}, "cache_control": MARK}
    request = sent(
        {"role": "system", "content": "s", "cache_control": MARK},
        user([text("a"), text("b", cache_control=MARK), text(" ", cache_control={"type": "ephemeral"})]),
        {"role": "assistant", "content": "c", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "d", "cache_control": MARK},
        user("e", cache_control=MARK),
        user([{"type": "image_url", "image_url": {"url": "https://a.example/b.png", "cache_control": MARK}}]),
        tools=[{"type": "function", "function": {"name": "f", "cache_control": MARK}}],
    )
    assert request["system"] == [text("s", cache_control=MARK)]
    first, asked, last = request["messages"]
    assert first["content"] == [text("a"), text("b", cache_control=MARK)]
    assert [block.get("cache_control") for block in asked["content"]] == [None, MARK]
    assert [block.get("cache_control") for block in last["content"]] == [MARK, MARK, MARK]
    assert request["tools"][0]["cache_control"] == MARK


def test_cache_control_of_blank_part_moves_back() -> None:
    assert sent(user([text("a"), text(" ", cache_control=MARK)]))["messages"][0]["content"] == [
        text("a", cache_control=MARK)
    ]


def test_thinking_gets_no_cache_control() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    message = {"role": "assistant", "content": "ho", "thinking_blocks": [thinking], "cache_control": MARK}
    assert sent(user("a"), message, user("b"))["messages"][1]["content"] == [thinking, text("ho", cache_control=MARK)]
