"""Kind 4: the provider's message is found, whatever the shape of its error."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app import errors
from platform_app.llm.providers.anthropic import errors as anthropic_errors
from platform_app.llm.providers.error_body import MAX_MESSAGE, clean, error_body_of, is_error_body, read_error_body
from platform_app.llm.providers.openai import errors as openai_errors

FORMS: dict[str, tuple[object, str | None]] = {
    "openai": ({"error": {"message": "m", "type": "t", "param": None, "code": None}}, "m"),
    "anthropic": ({"type": "error", "error": {"type": "invalid_request_error", "message": "m"}}, "m"),
    "fastapi list": ({"detail": [{"loc": ["body", "messages", 0, "content"], "msg": "m"}]}, "messages.0.content: m"),
    "fastapi two": ({"detail": [{"loc": ["body", "a"], "msg": "m"}, {"loc": ["b"], "msg": "n"}]}, "a: m; b: n"),
    "fastapi text": ({"detail": "m"}, "m"),
    "fastapi object": ({"detail": {"message": "m", "code": 3}}, "m"),
    "mistral": ({"object": "error", "message": {"detail": [{"loc": ["body", "a"], "msg": "m"}]}}, "a: m"),
    "vllm": ({"object": "error", "message": "m", "type": "BadRequestError", "param": None, "code": 400}, "m"),
    "ollama": ({"error": "m"}, "m"),
    "tgi": ({"error": "m", "error_type": "validation"}, "m"),
    "message": ({"message": "m"}, "m"),
    "xai": ({"code": "Client specified an invalid argument", "error": "m"}, "m"),
    "nest": ({"statusCode": 400, "error": "Bad Request", "message": ["m", "n"]}, "m; n; Bad Request"),
    "rfc 9457": ({"type": "about:blank", "title": "T", "status": 400, "detail": "m"}, "m; T"),
    "rails": ({"errors": {"model": ["m"], "n": ["x"]}}, "model: m; n: x"),
    "errors": ({"errors": [{"message": "m"}, {"message": "n"}]}, "m; n"),
    "apigee": ({"fault": {"faultstring": "m", "detail": {"errorcode": "x"}}}, "errorcode: x; m"),
    "oauth": ({"error": "invalid_request", "error_description": "m"}, "invalid_request; m"),
    "google list": ([{"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}], "m"),
    "google fields": (
        {"error": {"message": "m", "details": [{"fieldViolations": [{"field": "a", "description": "d"}]}]}},
        "m; a: d",
    ),
    "nested": ({"error": {"error": {"message": "m"}}}, "m"),
    "json in a text": ({"error": {"message": '{"error": {"message": "m"}}'}}, "m"),
    "openrouter raw": (
        {"error": {"message": "Provider returned error", "metadata": {"raw": '{"detail": "m"}', "provider_name": "p"}}},
        "Provider returned error; m",
    ),
    "code alone": ({"error": {"code": "invalid_thing"}}, "invalid_thing"),
    "a text": ("m", "m"),
    "twice the same": ({"message": "m", "error": {"message": "m"}}, "m"),
    "nothing": ({"error": {}}, None),
    "number": (5, None),
    "null": (None, None),
    "empty": ({"error": {"message": ""}}, None),
}


@pytest.mark.parametrize("name", FORMS)
def test_message_is_found_in_every_shape(name: str) -> None:
    value, words = FORMS[name]
    assert error_body_of(value).message == words
    assert read_error_body({}, json.dumps(value).encode()).message == words


@pytest.mark.parametrize("name", [name for name, (_, words) in FORMS.items() if words])
@pytest.mark.parametrize("wire", [openai_errors, anthropic_errors])
def test_message_reaches_caller_or_log(wire: Any, name: str) -> None:
    """The caller gets it if the request is invalid, else the log; in an error response as within a 200."""
    value, words = FORMS[name]
    body = json.dumps(value).encode()
    refused, failed = wire.error_from_response(400, {}, body), wire.error_from_response(502, {}, body)
    assert (refused.details, refused.provider_message) == ([words], None)
    if not isinstance(failed, errors.RequestRefused):
        assert (failed.details, failed.provider_message) == (None, words)
    event = wire.error_from_event(value)
    assert words in (event.provider_message, *(event.details or ()))


TEXTS: dict[str, tuple[bytes, str | None]] = {
    "plain": (b"upstream connect error\r\n or disconnect/reset\n", "upstream connect error or disconnect/reset"),
    "page": (
        b"<html><head><title>413 Request Entity Too Large</title><style>a{b:c}</style></head>"
        b"<script>var a = '<b>';</script><body><h1>Too&nbsp;Large &amp; more</h1></body></html>",
        "413 Request Entity Too Large Too Large & more",
    ),
    "xml": (b'<?xml version="1.0"?><Error><Code>A</Code><Message>m</Message></Error>', "A m"),
    "cut": (b'{"error": {"type": "t", "message": "the first \\"half\\" of a sen', 'the first "half" of a sen'),
    "cut in an escape": (b'{"message": "abc\\', "abc"),
    "cut elsewhere": (b'{"error": {"ty', None),
    "events": (b'event: error\ndata: {"error": {"message": "m"}}\n\n', "m"),
    "event of text": (b"data: boom\n\n", "boom"),
    "bom": (b'\xef\xbb\xbf{"detail": "m"}', "m"),
    "not utf-8": (b'{"detail": "caf\xe9"}', "caf\ufffd"),
    "half a pair": (b'{"detail": "a \\ud83d b"}', "a \ufffd b"),
    "infinity": (b'{"detail": "m", "value": -Infinity}', "m"),
    "controls": (b'{"detail": "a\\u0000b\\u001b[31mred\\u202edrow\\u2028c\\r\\nX: y"}', "a bred drow c X: y"),
    "empty": (b"", None),
    "marks": (b"--- \n ===", None),
}


@pytest.mark.parametrize("name", TEXTS)
def test_message_of_non_json_body_is_read(name: str) -> None:
    body, words = TEXTS[name]
    assert read_error_body({}, body).message == words


def test_compressed_body_has_no_message() -> None:
    assert read_error_body({"content-encoding": "gzip"}, b"\x1f\x8bwords").message is None


def test_message_length_is_bounded() -> None:
    many = {"errors": [{"message": f"{n} " + "x" * 5000} for n in range(5000)]}
    words = read_error_body({}, json.dumps(many).encode()).message
    assert words is not None
    assert len(words) <= MAX_MESSAGE
    refused = openai_errors.error_from_response(400, {}, json.dumps(many).encode())
    assert refused.details is not None
    assert len(refused.details[0]) <= 500


@pytest.mark.parametrize(
    "body",
    [
        b"<" * 65536,
        b"<script" * 9000,
        b'{"message": "' + b"\\" * 65000,
        b"[" * 65536,
        b'{"error":' * 7000,
        b'"message":' * 6000,
        b"data:" * 13000,
        b'{"detail": "' + b"{" * 65000 + b'"}',
        b"request too large " * 3600,
        b"violate " * 8000,
        b"not support " * 5400,
    ],
    ids=lambda body: body[:12].decode(),
)
def test_hostile_body_is_read_with_bounded_work(body: bytes) -> None:
    """Return this thread's CPU time for a body of 64 KiB, the most that is read of an error."""
    started = time.thread_time()
    for wire in (openai_errors, anthropic_errors):
        for status in (400, 404, 429):
            wire.error_from_response(status, {}, body)
    assert time.thread_time() - started < 2


def test_keys_are_masked_in_every_shape() -> None:
    for text in ("sk-proj-abc123XYZ_789", "fbp_live_0123456789AB_zzzz"):
        for value in ({"detail": [{"loc": ["a"], "msg": text}]}, {"message": text}, text, [text]):
            for status in (400, 500):
                error = openai_errors.error_from_response(status, {}, json.dumps(value).encode())
                assert "789" not in f"{error.details}{error.provider_message}"


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ({"detail": [{"loc": ["body", "messages", 0, "content"], "msg": "m"}]}, "messages.0.content"),
        ({"detail": [{"loc": ["temperature"], "msg": "m"}]}, "temperature"),
        ({"detail": [{"loc": "x", "msg": "m"}]}, "x"),
        ({"detail": [{"loc": [["x"]], "msg": "m"}]}, None),
        ({"error": {"message": "m", "param": "n"}}, "n"),
    ],
)
def test_field_of_validation_error_is_param(value: object, param: str | None) -> None:
    assert openai_errors.error_from_response(422, {}, json.dumps(value).encode()).param == param


_JSON = st.recursive(
    st.none() | st.text(max_size=9) | st.integers() | st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "errors", "detail", "message", "msg", "loc", "code", "type", "metadata", "raw"]),
            inner,
        )
    ),
)


@given(_JSON)
def test_any_json_is_read(value: object) -> None:
    words = error_body_of(value).message
    assert words is None or words == clean(words)


@given(st.binary(max_size=60))
def test_any_bytes_are_read(body: bytes) -> None:
    words = read_error_body({}, body).message
    assert words is None or words == clean(words)


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        ({"error": {"message": "m"}}, True),
        ({"error": "m"}, True),
        ({"object": "error", "message": "m"}, True),
        ({"type": "error"}, True),
        ({"detail": "m"}, True),
        ({"detail": []}, False),
        ({"message": "m"}, True),
        ({"message": "m", "code": 400}, True),
        ({"id": "c", "object": "chat.completion.chunk", "message": "m"}, False),
        ({"id": "c", "choices": None}, False),
        ({"error": None, "usage": {}}, False),
        ({"error": False}, False),
        ({"id": "c", "message": "m"}, False),
        ({}, False),
    ],
)
def test_error_is_distinguished_from_unusual_chunk(body: dict[str, object], failure: bool) -> None:
    assert is_error_body(body) is failure
