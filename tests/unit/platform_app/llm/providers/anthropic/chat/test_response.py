"""Anthropic's responses and events as OpenAI's, checked against the types of both official packages."""

import json
from typing import Any

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import TypeAdapter

from platform_app.errors import PlatformError, ProviderBadResponse, ProviderError, ProviderUnavailable
from platform_app.llm.providers.anthropic.chat.response import FINISH_REASONS, read_message
from platform_app.llm.providers.anthropic.chat.stream import AnthropicEventDecoder
from platform_app.llm.responses import ChatChunk, ModelResponse
from platform_app.llm.usage.counts import TokenUsage

EVENTS: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
USAGE = {"input_tokens": 10, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 2, "output_tokens": 7}
TEXT = {"type": "text", "text": "Hello"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Bonn"}}
THINKING = {"type": "thinking", "thinking": "hm", "signature": "sig"}


def message(*content: dict[str, Any], **fields: Any) -> dict[str, Any]:
    made = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": list(content),
        "stop_reason": "end_turn", "stop_sequence": None, "usage": USAGE, **fields,
    }  # fmt: skip
    Message.model_validate(made)
    return made


def read(made: dict[str, Any]) -> ModelResponse:
    completion = read_message(json.dumps(made).encode())
    ChatCompletion.model_validate_json(completion.raw)
    assert json.loads(completion.raw) == completion.body
    return completion


def test_text_message_is_translated() -> None:
    done = read(message(TEXT, {"type": "text", "text": ", you"}))
    assert (done.id, done.body["object"], done.body["model"]) == ("msg_1", "chat.completion", "claude")
    assert done.message == {"role": "assistant", "content": "Hello, you", "refusal": None}
    assert done.finish_reason == "stop"


def test_usage_includes_cached_input() -> None:
    done = read(message(TEXT, usage={**USAGE, "output_tokens_details": {"thinking_tokens": 3}}))
    assert done.usage == TokenUsage(42, 7, 49, 30, 2, 0, 3)
    assert done.body["usage"]["prompt_tokens_details"] == {"cached_tokens": 30, "cache_creation_tokens": 2}
    assert done.body["usage"]["completion_tokens_details"] == {"reasoning_tokens": 3}
    assert read_message(json.dumps({**message(TEXT), "usage": None}).encode()).usage is None


def test_usage_has_cache_lifetimes() -> None:
    lifetimes = {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 5}
    done = read(message(TEXT, usage={**USAGE, "cache_creation_input_tokens": 7, "cache_creation": lifetimes}))
    assert done.usage == TokenUsage(47, 7, 54, 30, 7, 5)
    assert done.body["usage"]["prompt_tokens_details"]["cache_creation_token_details"] == lifetimes


def test_tool_calls_are_translated() -> None:
    done = read(message(CALL, {**CALL, "id": "toolu_2", "input": {}}, stop_reason="tool_use"))
    assert done.message["content"] is None
    assert done.finish_reason == "tool_calls"
    assert done.message["tool_calls"] == [
        {"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bonn"}'}},
        {"id": "toolu_2", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
    ]
    assert read(message(TEXT, CALL)).message["content"] == "Hello"


def test_thinking_is_translated() -> None:
    hidden = {"type": "redacted_thinking", "data": "xyz"}
    done = read(message(THINKING, hidden, TEXT))
    assert done.message["reasoning_content"] == "hm"
    assert done.message["thinking_blocks"] == [THINKING, hidden]
    assert done.message["content"] == "Hello"


def test_empty_content_becomes_empty_text() -> None:
    assert read(message()).message["content"] == ""


@pytest.mark.parametrize(("reason", "made"), FINISH_REASONS.items())
def test_stop_reason_becomes_finish_reason(reason: str, made: str) -> None:
    assert read(message(TEXT, stop_reason=reason)).finish_reason == made


def test_unknown_stop_reason_becomes_stop() -> None:
    response = {**message(TEXT), "stop_reason": "never_heard_of"}
    assert read_message(json.dumps(response).encode()).finish_reason == "stop"


def test_every_published_stop_reason_is_known() -> None:
    published = Message.model_json_schema()["properties"]["stop_reason"]["anyOf"][0]["enum"]
    assert set(published) == set(FINISH_REASONS)


def test_refusal_has_explanation() -> None:
    details = {"type": "refusal", "category": None, "explanation": "I will not."}
    done = read(message(stop_reason="refusal", stop_details=details))
    assert (done.message["refusal"], done.finish_reason) == ("I will not.", "content_filter")


def test_error_in_200_is_raised() -> None:
    with pytest.raises(ProviderUnavailable):
        read_message(b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}')


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"{}", b'{"type": "message", "content": null}'])
def test_invalid_message_raises_bad_response(raw: bytes) -> None:
    with pytest.raises(ProviderBadResponse):
        read_message(raw)


START = {"type": "message_start", "message": {**message(), "stop_reason": None, "usage": {**USAGE, "output_tokens": 1}}}
STOP = {"type": "message_stop"}


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def end(reason: str = "end_turn", **delta: Any) -> dict[str, Any]:
    ending = {"stop_reason": reason, "stop_sequence": None, **delta}
    return {"type": "message_delta", "delta": ending, "usage": {"output_tokens": 7}}


def stream(*events: dict[str, Any]) -> list[ChatChunk]:
    decoder = AnthropicEventDecoder()
    chunks = []
    for event in events:
        if event["type"] not in ("ping", "error", "never_heard_of"):
            EVENTS.validate_python(event)
        if chunk := decoder.decode(json.dumps(event).encode()):
            ChatCompletionChunk.model_validate_json(chunk.raw)
            assert json.loads(chunk.raw) == chunk.body
            chunks.append(chunk)
    assert decoder.complete
    return chunks


def deltas(chunks: list[ChatChunk]) -> list[dict[str, Any]]:
    return [dict(chunk.delta) for chunk in chunks if chunk.body["choices"]]


def test_text_stream_becomes_chunks() -> None:
    parts = [{"type": "text_delta", "text": "Hel"}, {"type": "text_delta", "text": "lo"}]
    chunks = stream(START, *block(0, {"type": "text", "text": ""}, *parts), {"type": "ping"}, end(), STOP)
    assert deltas(chunks) == [{"role": "assistant", "content": ""}, {"content": "Hel"}, {"content": "lo"}, {}]
    assert [chunk.finish_reason for chunk in chunks] == [None, None, None, "stop", None]
    assert {(chunk.id, chunk.body["model"], chunk.body["object"]) for chunk in chunks} == {
        ("msg_1", "claude", "chat.completion.chunk")
    }
    # Input is counted in the first event, output in the last.
    assert [chunk.usage for chunk in chunks] == [None, None, None, None, TokenUsage(42, 7, 49, 30, 2)]
    assert chunks[-1].body["choices"] == []


def test_tool_call_stream_becomes_chunks() -> None:
    parts = [{"type": "input_json_delta", "partial_json": part} for part in ("", '{"ci', 'ty": "Bonn"}')]
    bare = {**CALL, "input": {}}
    chunks = stream(
        START,
        *block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "I look."}),
        *block(1, bare, *parts),
        *block(2, {**bare, "id": "toolu_2", "name": "clock"}, parts[0]),
        end("tool_use"),
        STOP,
    )
    made = [delta["tool_calls"][0] for delta in deltas(chunks) if "tool_calls" in delta]
    assert made == [
        {"index": 0, "id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"ci'}},
        {"index": 0, "function": {"arguments": 'ty": "Bonn"}'}},
        {"index": 1, "id": "toolu_2", "type": "function", "function": {"name": "clock", "arguments": ""}},
        {"index": 1, "function": {"arguments": "{}"}},
    ]
    assert chunks[-2].finish_reason == "tool_calls"


def test_thinking_stream_becomes_chunks() -> None:
    parts = [
        {"type": "thinking_delta", "thinking": "h"}, {"type": "thinking_delta", "thinking": "m"},
        {"type": "signature_delta", "signature": "sig"},
    ]  # fmt: skip
    hidden = {"type": "redacted_thinking", "data": "xyz"}
    empty = {"type": "thinking", "thinking": "", "signature": ""}
    made = deltas(stream(START, *block(0, empty, *parts), *block(1, hidden), end(), STOP))
    assert made[1:-1] == [
        {"reasoning_content": "h"}, {"reasoning_content": "m"}, {"thinking_blocks": [THINKING]},
        {"thinking_blocks": [hidden]},
    ]  # fmt: skip


def test_streamed_refusal_has_explanation() -> None:
    details = {"type": "refusal", "category": None, "explanation": "I will not."}
    chunks = stream(START, end("refusal", stop_details=details), STOP)
    assert (chunks[-2].delta, chunks[-2].finish_reason) == ({"refusal": "I will not."}, "content_filter")


def test_unknown_events_are_skipped() -> None:
    new = {"type": "never_heard_of", "delta": {}}
    assert deltas(stream(new, START, new, end(), STOP)) == [{"role": "assistant", "content": ""}, {}]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, ProviderUnavailable),
        ({"type": "api_error"}, ProviderError),
        (None, ProviderError),
    ],
)
def test_error_event_is_raised(error: object, kind: type[PlatformError]) -> None:
    decoder = AnthropicEventDecoder()
    decoder.decode(json.dumps(START).encode())
    with pytest.raises(kind):
        decoder.decode(json.dumps({"type": "error", "error": error}).encode())


@pytest.mark.parametrize("events", [[], [START], [START, end()]])
def test_stream_without_message_stop_is_incomplete(events: list[dict[str, Any]]) -> None:
    decoder = AnthropicEventDecoder()
    for event in events:
        decoder.decode(json.dumps(event).encode())
    assert not decoder.complete
    with pytest.raises(ProviderBadResponse):
        decoder.finish()


@pytest.mark.parametrize("events", [[STOP], [block(0, TEXT)[0]], [end()], [START, STOP]])
def test_events_out_of_order_raise_bad_response(events: list[dict[str, Any]]) -> None:
    decoder = AnthropicEventDecoder()
    *before, last = events
    for event in before:
        decoder.decode(json.dumps(event).encode())
    with pytest.raises(ProviderBadResponse):
        decoder.decode(json.dumps(last).encode())


_ODD = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.sampled_from(["tool_use", "text", "thinking", "text_delta"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["type", "text", "usage", "stop_reason", "input", "thinking"]), inner)
    ),
    max_leaves=6,
)
_KINDS = st.sampled_from(
    [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
)


@settings(max_examples=40)
@given(
    st.lists(
        st.builds(
            lambda kind, fields: {**fields, "type": kind},
            _KINDS,
            st.dictionaries(st.sampled_from(["message", "content_block", "delta", "usage"]), _ODD),
        ),
        max_size=6,
    )
)
def test_any_events_become_chunks_or_platform_error(events: list[dict[str, Any]]) -> None:
    decoder = AnthropicEventDecoder()
    try:
        for event in [START, *events]:
            chunk = decoder.decode(json.dumps(event).encode())
            assert chunk is None or isinstance(chunk.body["choices"], list)
    except PlatformError:
        pass
