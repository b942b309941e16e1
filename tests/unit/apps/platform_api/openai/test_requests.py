"""What an OpenAI client may send, and that the gateway forwards it unchanged."""

import json
from typing import Any

import orjson
import pytest

from apps.platform_api.http.body.json_text import MAX_DEPTH
from apps.platform_api.openai.requests import OpenAIBody, parse_openai_body
from platform_app.errors import InvalidRequest
from platform_app.llm.requests import Operation

USER = {"role": "user", "content": "Hello"}
CHAT: dict[str, Any] = {"messages": [USER]}


def parsed(body: dict[str, Any], operation: Operation = Operation.CHAT) -> OpenAIBody:
    return parse_openai_body(json.dumps(body).encode(), operation)


def refusal(raw: bytes | dict[str, Any], operation: Operation = Operation.CHAT) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse_openai_body(raw if isinstance(raw, bytes) else json.dumps(raw).encode(), operation)
    return caught.value


def nested(levels: int) -> bytes:
    """A body whose deepest value is inside of so many objects and lists."""
    return b'{"messages":[{"role":"user"}],"x":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


def test_body_keeps_all_fields_but_model_and_stream() -> None:
    body = {"model": "m", "temperature": 0.5, "stream": True, "new_field": {"b": 1, "a": [None, ""]}, **CHAT}
    asked = parsed(body).request
    assert (asked.model, asked.stream, asked.operation) == ("m", True, Operation.CHAT)
    assert asked.body == {"temperature": 0.5, "new_field": {"b": 1, "a": [None, ""]}, **CHAT}
    assert list(asked.body["new_field"]) == ["b", "a"]


@pytest.mark.parametrize("absent", [{}, {"model": None, "stream": None, "stream_options": None}])
def test_null_field_counts_as_absent(absent: dict[str, Any]) -> None:
    got = parsed({**CHAT, **absent})
    assert (got.request.model, got.request.stream, got.wants_usage) == (None, False, False)


@pytest.mark.parametrize(
    ("options", "wants"),
    [({"include_usage": True}, True), ({"include_usage": False}, False), ({"include_obfuscation": False}, False)],
)
def test_stream_usage_needs_include_usage(options: dict[str, Any], wants: bool) -> None:
    got = parsed({**CHAT, "stream": True, "stream_options": options})
    assert got.wants_usage is wants
    assert got.request.body["stream_options"] == options


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": 7}, "model"),
        ({"model": ""}, "model"),
        ({"model": "m" * 257}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": [USER, "Hello"]}, "messages[1]"),
        ({"messages": [{"content": "Hello"}]}, "messages[0]"),
        ({"messages": [{"role": 1}]}, "messages[0]"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
)
def test_wrong_field_is_named(change: dict[str, Any], param: str) -> None:
    error = refusal({**CHAT, **change})
    assert error.param == param
    assert error.message.startswith(f"{param}: expected") or error.message.startswith(f"{param}: is only")


@pytest.mark.parametrize("given", ["a text", ["two", "texts"], [1, 2, 3], [[1], [2]]])
def test_every_kind_of_input_is_accepted(given: object) -> None:
    asked = parsed({"model": "e", "input": given, "dimensions": 8}, Operation.EMBEDDINGS).request
    assert asked.body == {"input": given, "dimensions": 8}


@pytest.mark.parametrize("body", [{}, {"input": ""}, {"input": []}, {"input": 5}, {"input": "a", "stream": True}])
def test_malformed_embeddings_body_is_refused(body: dict[str, Any]) -> None:
    assert refusal(body, Operation.EMBEDDINGS).param in ("input", "stream")


@pytest.mark.parametrize("raw", [b'{"a":NaN}', b'{"a":1e400}', b'{"a":-Infinity}'])
def test_number_that_is_not_finite_is_named(raw: bytes) -> None:
    assert refusal(raw).message == "a: expected a finite number of at most 64 bits."


@pytest.mark.parametrize("raw", [b"", b"{", b'{"a":"\xff"}', b"\xef\xbb\xbf{}"])
def test_malformed_json_names_its_position(raw: bytes) -> None:
    message = refusal(raw).message
    assert message.startswith("The body is not valid JSON: ")
    assert "character" in message or "position" in message or "begins with" in message


@pytest.mark.parametrize("raw", [b"[]", b"null", b'"text"', b"7"])
def test_body_other_than_an_object_is_refused(raw: bytes) -> None:
    assert refusal(raw).message == "The body must be a JSON object."


@pytest.mark.parametrize("number", [2**63 - 1, 2**64 - 1, -(2**63), 0, 1.0, 1e-7, 1.5e300, 0.1, 1234567890123456.5])
def test_numbers_are_forwarded_unchanged(number: float) -> None:
    raw = b'{"messages":[{"role":"user"}],"x":%b}' % json.dumps(number).encode()
    got = orjson.loads(orjson.dumps(parse_openai_body(raw, Operation.CHAT).request.body))["x"]
    assert (got, type(got)) == (number, type(number))


@pytest.mark.parametrize("number", [b"18446744073709551616", b"-9223372036854775809", b"1" * 300])
@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b'{"messages":[{"role":"user"}],"seed":N}', "seed"),
        (b'{"messages":[{"role":"user"},{"role":"user","x":{"y":[1,N]}}]}', "messages[1].x.y[1]"),
    ],
)
def test_number_that_loses_digits_names_its_field(raw: bytes, param: str, number: bytes) -> None:
    error = refusal(raw.replace(b"N", number))
    assert error.param == param
    assert "64 bits" in error.message


def test_digits_in_texts_and_fractions_are_accepted() -> None:
    raw = b'{"messages":[{"role":"user","content":"123456789012345678901234567890"}],"x":0.12345678901234567890123}'
    assert parse_openai_body(raw, Operation.CHAT).request.body["x"] == 0.12345678901234567890123


def test_lone_surrogate_names_its_field() -> None:
    error = refusal(b'{"messages":[{"role":"user","content":"a\\ud83d"}]}')
    assert error.param == "messages[0].content"
    assert "surrogate" in error.message
    whole = parse_openai_body(b'{"messages":[{"role":"user","content":"\\ud83d\\ude00"}]}', Operation.CHAT)
    assert whole.request.body["messages"][0]["content"] == "\N{GRINNING FACE}"


def test_last_of_repeated_members_is_forwarded() -> None:
    """As with most parsers; what matters is that no provider sees the other one."""
    raw = b'{"model":"a","messages":[],"messages":[{"role":"user"}],"model":"b","x":1,"x":2}'
    asked = parse_openai_body(raw, Operation.CHAT).request
    assert (asked.model, asked.body) == ("b", {"messages": [{"role": "user"}], "x": 2})


def test_depth_is_bounded_by_the_serializer() -> None:
    orjson.dumps(parse_openai_body(nested(MAX_DEPTH), Operation.CHAT).request.body)
    for levels in (MAX_DEPTH + 1, 300, 1000):
        assert "levels deep" in refusal(nested(levels)).message
    assert "not valid JSON" in refusal(nested(100_000)).message


def test_long_name_of_a_field_is_refused_and_cut() -> None:
    """The rules for fields and the texts of errors repeat each name."""
    assert "n" * 128 in parsed({"messages": [{"role": "user"}], "n" * 128: 1}).request.body
    error = refusal(b'{"messages":[{"role":"user"}],"%b":1}' % (b"n" * 129))
    assert (error.param, len(error.message)) == ("n" * 64, 64 + len(": expected a name of at most 128 characters."))


def test_many_flat_brackets_are_accepted() -> None:
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "{["}]}] * 500}
    assert len(parsed(body).request.body["messages"]) == 500
