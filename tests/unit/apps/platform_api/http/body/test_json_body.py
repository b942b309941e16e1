"""A JSON body as a model: every problem names its field, and no input causes an internal error."""

import json
from typing import Annotated, Any

import orjson
import pytest
from fastapi import Request
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from apps.platform_api.chat.schemas import ChatRequestBody
from apps.platform_api.http.body.json_body import json_body, parse
from apps.platform_api.http.body.json_fields import TOO_LONG
from apps.platform_api.http.errors import error_body
from platform_app.errors import InvalidRequest, PlatformError, UnsupportedMediaType, ValidationFailed
from tests.support.fakes.core import context


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=10)] = ""
    parts: list[dict[str, Any]] = []
    free: dict[str, Any] = {}


def refused(raw: bytes, model: type[BaseModel] = Thing) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        parse(model, raw)
    orjson.dumps(error_body(caught.value, context()))  # it can be rendered
    return caught.value


def test_valid_body_becomes_the_model() -> None:
    assert parse(Thing, b'{"name": "x", "parts": [{}]}') == Thing(name="x", parts=[{}])


@pytest.mark.parametrize(
    "raw", [b"", b" ", b"{", b"{]", b'{"name": }', b"nul", b'{"name": "\xff"}', b"{} {}", b"{'name': 1}"]
)
def test_malformed_json_is_an_invalid_request(raw: bytes) -> None:
    error = refused(raw)
    assert type(error) is InvalidRequest
    assert error.details is not None
    assert len(error.details) == 1


@pytest.mark.parametrize(
    ("raw", "details"),
    [
        (b"[]", ["body: Input should be an object"]),
        (b'"text"', ["body: Input should be an object"]),
        (b"null", ["body: Input should be an object"]),
        (b'{"nam": 1}', ["nam: is not a field of this request"]),
        (b'{"name": 1}', ["name: Input should be a valid string"]),
        (b'{"parts": [{}, 5]}', ["parts[1]: Input should be an object"]),
        (b'{"name": 1, "parts": 2}', ["name: Input should be a valid string", "parts: Input should be a valid array"]),
    ],
)
def test_each_problem_names_its_field(raw: bytes, details: list[str]) -> None:
    error = refused(raw)
    assert type(error) is ValidationFailed
    assert error.details == details


def test_values_are_not_repeated() -> None:
    error = refused(b'{"name": "sk-secret-value-of-the-client"}')
    assert "sk-secret" not in f"{error} {error.details}"


def test_list_of_problems_is_bounded() -> None:
    error = refused(orjson.dumps({f"field{number}": 1 for number in range(500)}))
    assert error.details is not None
    assert len(error.details) <= 20


@pytest.mark.parametrize("name", ["body", "query", "path", "header"])
def test_field_named_like_a_request_part_keeps_its_path(name: str) -> None:
    assert refused(orjson.dumps({name: 1})).details == [f"{name}: is not a field of this request"]


SURROGATE = "half of a surrogate pair is not text"
NUL = "a NUL character is not text"
CONSTANT = "expected a finite number of at most 64 bits"


@pytest.mark.parametrize(
    ("raw", "details"),
    [
        (rb'{"name": "\ud800"}', [f"name: {SURROGATE}"]),
        (rb'{"name": "\udfff", "parts": [{"a": "\ud800x"}]}', [f"name: {SURROGATE}", f"parts[0].a: {SURROGATE}"]),
        (rb'{"\ud800": 1}', [f"body: {SURROGATE}"]),
        (rb'{"free": {"\ud800": {"a": "\ud800"}}}', [f"free: {SURROGATE}"]),
        (rb'{"\ud800": {"a": "\ud800"}}', [f"body: {SURROGATE}"]),
        (rb'{"name": "\u0000"}', [f"name: {NUL}"]),
        (rb'{"free": {"a": ["x", "\u0000"]}}', [f"free.a[1]: {NUL}"]),
        (rb'{"free": {"a\u0000": {"b": "\u0000"}}}', [f"free: {NUL}"]),
        (b'{"free": {"a": [1, NaN], "b": -Infinity}}', [f"free.a[1]: {CONSTANT}", f"free.b: {CONSTANT}"]),
        (b'{"free": {"a": {"b": 18446744073709551616}}}', [f"free.a.b: {TOO_LONG}"]),
    ],
)
def test_lone_surrogate_names_its_field(raw: bytes, details: list[str]) -> None:
    error = refused(raw)
    assert type(error) is ValidationFailed
    assert sorted(error.details or []) == sorted(details)


@pytest.mark.parametrize("raw", [rb'{"name": "\\u0000"}', rb'{"name": "\ud83d\ude00"}', '{"name": "\u00e9"}'.encode()])
def test_escaped_surrogate_pair_is_accepted(raw: bytes) -> None:
    assert parse(Thing, raw).name == json.loads(raw)["name"]


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5)
_JSON = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(), max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
_CHAT = st.fixed_dictionaries(
    {},
    optional={
        "messages": st.lists(
            st.fixed_dictionaries(
                {"role": st.sampled_from(["user", "assistant", "tool", "system"]) | _JSON, "content": _JSON}
            )
            | _JSON,
            max_size=3,
        )
        | _JSON,
        "prompt": _JSON,
        "stop": _JSON,
        "tools": _JSON,
        "tool_choice": _JSON,
        "metadata": _JSON,
        "response_format": _JSON,
        "temperature": _JSON,
    },
)


def told(error: PlatformError) -> None:
    """Whether an error is the client's, and can be written as JSON."""
    assert error.status in (400, 415, 422)
    orjson.dumps(error_body(error, context()))


@given(_CHAT)
@example({"messages": [{"role": "user", "content": [{"type": "\ud800"}]}]})
@example({"metadata": {"\ud800": {"\ud800": "\x00"}}})
def test_any_json_value_gets_a_response(data: object) -> None:
    """Surrogates, NULs, huge numbers and NaN among it: a body, or an error that can be written as JSON."""
    raw = json.dumps(data).encode()
    try:
        body = parse(ChatRequestBody, raw)
    except PlatformError as error:
        told(error)
    else:
        orjson.dumps(body.upstream_body())


@given(st.binary(max_size=60))
def test_any_bytes_get_a_response(raw: bytes) -> None:
    try:
        parse(Thing, raw)
    except PlatformError as error:
        told(error)


@pytest.mark.parametrize("depth", [100, 2000, 100_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    raw = b'{"free": {"a": ' + b"[" * depth + rb'"\u0000"' + b"]" * depth + b"}}"
    assert refused(raw).status in (400, 422)


def request(content_type: str | None, body: bytes) -> Request:
    headers = [] if content_type is None else [(b"content-type", content_type.encode())]

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON; charset=utf-8", "application/problem+json", " application/json ;x"],
)
async def test_json_media_types_are_accepted(content_type: str) -> None:
    assert await json_body(Thing)(request(content_type, b'{"name": "x"}')) == Thing(name="x")


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "text/json", "application/jsonp", "application/x-www-form-urlencoded", "json", "x/json"],
)
async def test_other_media_types_are_unsupported(content_type: str | None) -> None:
    with pytest.raises(UnsupportedMediaType):
        await json_body(Thing)(request(content_type, b"{}"))
