"""A body in OpenAI's contract: read as far as needed, and kept as it is."""

import json
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from apps.platform_api.openai_body import MAX_MODEL_NAME, OpenAIBody, openai_body, parse_openai_body
from platform_app.errors import InvalidRequest, UnsupportedMediaType
from platform_app.llm.calls import Operation

MESSAGES = [{"role": "user", "content": "Hello"}]


def chat(**fields: Any) -> OpenAIBody:
    return parse_openai_body(json.dumps({"messages": MESSAGES, **fields}).encode(), Operation.CHAT)


def embed(**fields: Any) -> OpenAIBody:
    return parse_openai_body(json.dumps({"input": "Hello", **fields}).encode(), Operation.EMBEDDINGS)


def test_what_is_not_known_is_kept_in_its_order() -> None:
    fields = {"zeta": {"b": [None, 1.0, ""], "a": 2}, "messages": [{"role": "critic", "odd": 1}], "alpha": False}
    raw = json.dumps({"model": "m", **fields, "stream": True}).encode()
    body = parse_openai_body(raw, Operation.CHAT)
    assert json.dumps(body.request.body) == json.dumps(fields)
    assert (body.request.model, body.request.stream, body.request.operation) == ("m", True, Operation.CHAT)


@pytest.mark.parametrize("fields", [{}, {"model": None, "stream": None, "stream_options": None}, {"stream": False}])
def test_null_is_as_good_as_nothing_where_the_gateway_reads(fields: dict[str, Any]) -> None:
    body = chat(**fields)
    assert (body.request.model, body.request.stream, body.wants_usage) == (None, False, False)
    assert body.request.body == {"messages": MESSAGES}


@pytest.mark.parametrize(
    ("options", "wants"),
    [({"include_usage": True}, True), ({"include_usage": False}, False), ({}, False), ({"include_usage": 1}, False)],
)
def test_stream_options(options: dict[str, Any], wants: bool) -> None:
    body = chat(stream=True, stream_options={**options, "include_obfuscation": False})
    assert body.wants_usage is wants
    assert body.request.body["stream_options"] == {**options, "include_obfuscation": False}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ""}, "model"),
        ({"model": "m" * (MAX_MODEL_NAME + 1)}, "model"),
        ({"model": 5}, "model"),
        ({"model": ["m"]}, "model"),
        ({"stream": "true"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": {"role": "user"}}, "messages"),
        ({"messages": [*MESSAGES, "Hello"]}, "messages[1]"),
        ({"messages": [{"content": "Hello"}]}, "messages[0]"),
        ({"messages": [{"role": None}]}, "messages[0]"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"user_id": 2**64}, "user_id"),
    ],
)
def test_what_is_wrong_in_a_chat_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat(**fields)
    assert caught.value.param == param
    assert caught.value.message.startswith(f"{param}: ")


@pytest.mark.parametrize("given", ["Hello", ["a", ""], [1, 2], [[1], [2, 3]]])
def test_inputs_of_embeddings(given: Any) -> None:
    assert embed(input=given, dimensions=3).request.body == {"input": given, "dimensions": 3}


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"input": ""}, "input"), ({"input": []}, "input"), ({"input": None}, "input"), ({"input": 5}, "input"),
     ({"input": {"a": 1}}, "input"), ({"stream": True}, "stream")],
)  # fmt: skip
def test_what_is_wrong_in_embeddings_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        embed(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize("raw", [b"[]", b"null", b'"text"', b"5", b"true"])
def test_only_an_object_is_a_body(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="JSON object"):
        parse_openai_body(raw, Operation.CHAT)


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/x-www-form-urlencoded"])
async def test_another_type_is_refused_before_the_body_is_read(content_type: str | None) -> None:
    async def receive() -> Message:
        raise AssertionError("the body was read")

    headers = [] if content_type is None else [(b"content-type", content_type.encode())]
    with pytest.raises(UnsupportedMediaType):
        await openai_body(Operation.CHAT)(Request({"type": "http", "headers": headers}, receive))
