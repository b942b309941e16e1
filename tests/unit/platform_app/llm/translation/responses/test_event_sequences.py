"""Every sequence of chat chunks becomes a valid stream, which the SDK rebuilds to the message of the JSON form."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai._models import construct_type
from openai._types import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from platform_app.llm.responses import ChatChunk
from platform_app.llm.stream_conversion import assemble_response
from platform_app.llm.translation.responses.envelope import Envelope
from platform_app.llm.translation.responses.response import response_of_chat
from platform_app.llm.translation.responses.stream import ResponseWriter
from platform_app.llm.usage.counts import TokenUsage
from tests.support.providers.streams.responses_grammar import check_events, check_stream, parse_events

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_STRICT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
_USAGE = TokenUsage(5, 7, 12)


def _chunk(delta: dict[str, Any], reason: str | None = None) -> ChatChunk:
    body = {"id": "c1", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
    return ChatChunk(orjson.dumps(body), body)


@st.composite
def _calls(draw: st.DrawFn) -> list[list[dict[str, Any]]]:
    """Return the deltas of parallel calls: the first delta of each has its id and name."""
    calls = []
    for index in range(draw(st.integers(0, 3))):
        parts = draw(st.lists(_TEXT, max_size=3))
        kind = draw(st.sampled_from(["function", "custom"])) if not parts else "function"
        function = {"name": f"f{index}", "arguments": ""}
        begin = {"index": index, "id": f"call_{index}", "type": "function", "function": function}
        deltas: list[dict[str, Any]] = [{"tool_calls": [begin]}]
        if kind == "function":
            deltas += [{"tool_calls": [{"index": index, "function": {"arguments": part}}]} for part in parts]
        calls.append(deltas)
    return calls


@st.composite
def _deltas(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Return deltas of all kinds, interleaved, each kind in its own order."""
    kinds: list[list[dict[str, Any]]] = [
        [{"content": text} for text in draw(st.lists(_TEXT, max_size=4))],
        [{"refusal": text} for text in draw(st.lists(_TEXT, max_size=2))],
        [{"reasoning_content": text} for text in draw(st.lists(_TEXT, max_size=3))],
        *draw(_calls()),
    ]
    if draw(st.booleans()):
        kinds.append([{"thinking_blocks": [{"type": "thinking", "thinking": "t", "signature": "s"}]}])
    order = draw(st.permutations([number for number, deltas in enumerate(kinds) for _ in deltas]))
    left = [iter(deltas) for deltas in kinds]
    return [{"role": "assistant"}, *(next(left[number]) for number in order), {}]


_REASONS = st.sampled_from(["stop", "tool_calls", "length", "content_filter", "eos"])


def _written(writer: ResponseWriter, chunks: Sequence[ChatChunk]) -> bytes:
    return b"".join(writer.chunk(chunk) for chunk in chunks)


def _content(output: Sequence[Any]) -> dict[str, Any]:
    """Return the content of items, whatever their order and ids."""
    plain = [item if isinstance(item, dict) else item.to_dict() for item in output]
    parts = [part for item in plain if item["type"] == "message" for part in item["content"]]
    return {
        "text": "".join(part["text"] for part in parts if part["type"] == "output_text"),
        "refusal": "".join(part["refusal"] for part in parts if part["type"] == "refusal"),
        "messages": sum(item["type"] == "message" for item in plain),
        "reasoning": "".join(part["text"] for item in plain if item["type"] == "reasoning" for part in item["summary"]),
        "calls": sorted(
            (item["call_id"], item["name"], item.get("arguments", item.get("input")))
            for item in plain
            if item["type"] in ("function_call", "custom_tool_call")
        ),
    }


@settings(deadline=None, max_examples=40)
@given(_deltas(), _REASONS)
def test_event_sequence_of_any_chunks_is_valid(deltas: list[dict[str, Any]], reason: str) -> None:
    """The grammar holds, every event has the SDK's strict type, and the result equals the JSON form."""
    chunks = [*(_chunk(delta) for delta in deltas[:-1]), _chunk(deltas[-1], reason)]
    writer = ResponseWriter(Envelope({"input": "Hello"}, "m"))
    raw = _written(writer, chunks) + writer.finish(_USAGE)

    rebuilt = check_stream(raw)

    for event in parse_events(raw):
        _STRICT.validate_python(event)
    expected = {"length": "response.incomplete", "content_filter": "response.incomplete"}
    assert rebuilt.terminal == expected.get(reason, "response.completed")
    assert rebuilt.response["usage"]["total_tokens"] == 12
    whole = assemble_response(chunks)
    assert whole is not None
    json_form = response_of_chat(whole, Envelope({"input": "Hello"}, "m"), _USAGE)
    Response.model_validate(json_form, strict=False)
    assert json_form["status"] == rebuilt.response["status"]
    assert json_form["incomplete_details"] == rebuilt.response["incomplete_details"]
    assert _content(json_form["output"]) == _content(rebuilt.items)


@settings(deadline=None, max_examples=40)
@given(_deltas(), st.sampled_from(["stop", "tool_calls"]))
def test_sdk_accumulator_rebuilds_response(deltas: list[dict[str, Any]], reason: str) -> None:
    """The accumulator of OpenAI's SDK accepts each event, and its deltas add up to the final response."""
    writer = ResponseWriter(Envelope({"input": "Hello"}, "m"))
    chunks = [*(_chunk(delta) for delta in deltas[:-1]), _chunk(deltas[-1], reason)]
    events = parse_events(_written(writer, chunks) + writer.finish(None))
    state: Any = ResponseStreamState(input_tools=omit, text_format=omit)
    snapshot: Any = None
    for event in events:
        typed: Any = construct_type(type_=ResponseStreamEvent, value=event)
        snapshot = state.accumulate_event(typed)
        state._ResponseStreamState__current_snapshot = snapshot

    final = state._completed_response

    assert _content(final.output) == _content(events[-1]["response"]["output"])
    snapped, expected = _content(snapshot.output), _content(final.output)
    assert snapped["text"] == expected["text"]
    assert [call[2] for call in snapped["calls"]] == [call[2] for call in expected["calls"]]


@settings(deadline=None, max_examples=40)
@given(_deltas(), st.integers(0, 40))
def test_failure_at_any_cut_ends_with_response_failed(deltas: list[dict[str, Any]], cut: int) -> None:
    """A failure is never a completed response, and the terminal event comes in any case."""
    writer = ResponseWriter(Envelope({"input": "Hello"}, "m"))
    raw = _written(writer, [_chunk(delta) for delta in deltas[:cut]]) + writer.fail(
        "server_error", "The provider failed."
    )

    rebuilt = check_stream(raw)

    for event in parse_events(raw):
        _STRICT.validate_python(event)
    assert rebuilt.terminal == "response.failed"
    assert rebuilt.response["error"] == {"code": "server_error", "message": "The provider failed."}
    assert rebuilt.response["output"] == []
    assert rebuilt.error is not None
    assert rebuilt.error["error"]["message"] == "The provider failed."


@pytest.mark.parametrize("reason", ["abort", "insufficient_system_resource", "ERROR"])
def test_provider_that_gave_up_fails_response(reason: str) -> None:
    """vLLM and DeepSeek end a normal stream with a reason that says they gave up."""
    chunks = [_chunk({"content": "Half a"}), _chunk({}, reason)]
    writer = ResponseWriter(Envelope({}, "m"))

    rebuilt = check_stream(_written(writer, chunks) + writer.finish(None))
    whole = assemble_response(chunks)
    assert whole is not None
    json_form = response_of_chat(whole, Envelope({}, "m"), None)

    assert rebuilt.terminal == "response.failed"
    assert json_form["status"] == "failed"
    assert json_form["error"]["code"] == "server_error"


def test_grammar_refuses_truncated_stream() -> None:
    """The checker itself fails on a stream without its end, a repeated number, and a delta without its part."""
    writer = ResponseWriter(Envelope({}, "m"))
    events = parse_events(_written(writer, [_chunk({"content": "Hi"}), _chunk({}, "stop")]) + writer.finish(None))

    with pytest.raises(AssertionError, match="no terminal event"):
        check_events(events[:-1])
    with pytest.raises(AssertionError, match="sequence number"):
        check_events([*events[:3], *events[2:]])
    kept = [event for event in events if event["type"] != "response.content_part.added"]
    renumbered = [{**event, "sequence_number": number} for number, event in enumerate(kept)]
    with pytest.raises(AssertionError, match="not added"):
        check_events(renumbered)
