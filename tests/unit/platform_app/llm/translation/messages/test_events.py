"""Chat completions as Anthropic's events: hypothesis over the chunks, and the client's own accumulator as the judge."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from platform_app.errors import ProviderBadResponse
from platform_app.llm.responses import ChatChunk, ModelResponse
from platform_app.llm.stream_conversion import assemble_response
from platform_app.llm.translation.messages.events import MessageEvents
from platform_app.llm.translation.messages.message import message_json
from platform_app.llm.usage.counts import TokenUsage
from tests.support.providers.streams.messages_grammar import check_messages_grammar

USAGE = TokenUsage(20, 7, 27, 8, 4, 0, 3)
Delta = dict[str, Any]
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def chunk(delta: Delta, reason: str | None = None) -> ChatChunk:
    body = {"id": "chat-1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
    return ChatChunk(json.dumps(body).encode(), body)


def call(index: int, arguments: str, name: str | None = None) -> Delta:
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    made: Delta = {"index": index, "function": function}
    return {"tool_calls": [made if name is None else {**made, "id": f"call_{index}", "type": "function"}]}


def written(deltas: Iterable[Delta], reason: str = "stop") -> list[dict[str, Any]]:
    events, writer = [], MessageEvents("public")
    for each in (*map(chunk, deltas), chunk({}, reason)):
        events += list(writer.add(each))
    return events + list(writer.finish(USAGE))


def accumulated(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the message that Anthropic's client makes of the events."""
    message: Any = None
    texts: dict[int, bytes] = {}
    for event in events:
        message = accumulate_event(event=EVENT.validate_python(event), current_snapshot=message, json_bufs=texts)
    found: dict[str, Any] = message.to_dict()
    return found


def whole(deltas: Iterable[Delta], reason: str = "stop") -> dict[str, Any]:
    """Return the JSON form of the same response."""
    response = assemble_response([*map(chunk, deltas), chunk({}, reason)])
    assert isinstance(response, ModelResponse)
    found: dict[str, Any] = json.loads(message_json(response, "public", USAGE))
    return found


def compared(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message without members that are null or left out by one of the two forms."""
    return {name: value for name, value in message.items() if value is not None}


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | TEXTS, lambda inner: st.lists(inner, max_size=2)
)
ARGUMENTS = st.dictionaries(TEXTS, VALUES, max_size=3).map(json.dumps)


@st.composite
def in_parts(draw: st.DrawFn, text: str) -> list[str]:
    """Cut a text anywhere, also into empty parts."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@st.composite
def deltas_in_order(draw: st.DrawFn) -> list[Delta]:
    """Return reasoning, then text, then calls whose deltas alternate in any way."""
    deltas: list[Delta] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": text} for text in draw(st.lists(TEXTS, max_size=3))]
    deltas += [{"content": text} for text in draw(st.lists(TEXTS, max_size=3))]
    count = draw(st.integers(0, 3))
    parts = [draw(in_parts(draw(ARGUMENTS))) for _ in range(count)]
    deltas += [call(index, "", f"tool_{index}") for index in range(count)]
    left = [index for index, each in enumerate(parts) for _ in each]
    for index in draw(st.permutations(left)):
        deltas.append(call(index, parts[index].pop(0)))
    return deltas


@given(deltas_in_order())
def test_stream_rebuilds_message_of_json_form(deltas: list[Delta]) -> None:
    events = written(deltas)
    assert check_messages_grammar(events)
    streamed, json_form = compared(accumulated(events)), compared(whole(deltas))
    assert streamed == json_form


@given(st.lists(st.sampled_from(["text", "think", "a", "b", "c"]), max_size=12))
def test_alternating_content_is_one_block_at_a_time(order: list[str]) -> None:
    """Nothing is lost: text, thinking and each call have all their content, whatever the order of the deltas."""
    deltas: list[Delta] = []
    members = dict.fromkeys("abc", 0)
    for kind in order:
        match kind:
            case "text":
                deltas.append({"content": "x"})
            case "think":
                deltas.append({"reasoning_content": "y"})
            case _:
                opens = not members[kind]
                start = '{"k0":0' if opens else f',"k{members[kind]}":0'
                deltas.append(call("abc".index(kind), start, kind if opens else None))
                members[kind] += 1
    deltas += [call("abc".index(name), "}") for name, count in members.items() if count]
    events = written(deltas)
    assert check_messages_grammar(events)
    blocks = accumulated(events)["content"]
    assert "".join(block["text"] for block in blocks if block["type"] == "text") == "x" * order.count("text")
    assert "".join(b["thinking"] for b in blocks if b["type"] == "thinking") == "y" * order.count("think")
    calls = {block["name"]: len(block["input"]) for block in blocks if block["type"] == "tool_use"}
    assert calls == {name: count for name, count in members.items() if count}


@given(ARGUMENTS, st.data())
def test_arguments_cut_at_limit_are_read_alike(arguments: str, data: st.DataObject) -> None:
    """A response that ends at max_tokens in the middle of a call has the same input in both forms."""
    cut = arguments[: data.draw(st.integers(0, len(arguments)))]
    deltas = [call(0, cut, "tool")]
    events = written(deltas, "length")
    assert check_messages_grammar(events)
    streamed, json_form = accumulated(events), whole(deltas, "length")
    assert streamed["stop_reason"] == "max_tokens"
    assert streamed["content"] == json_form["content"]


@pytest.mark.parametrize("arguments", ["[1]", "7", "{", '{"a":1}}', '"text"', "{'a': 1}"])
def test_invalid_arguments_fail_in_both_forms(arguments: str) -> None:
    deltas = [call(0, arguments, "tool")]
    with pytest.raises(ProviderBadResponse):
        written(deltas, "tool_calls")
    with pytest.raises(ProviderBadResponse):
        whole(deltas, "tool_calls")


@pytest.mark.parametrize(("arguments", "read"), [("", {}), (" ", {}), ("null", {}), ('"{\\"a\\": 1}"', {"a": 1})])
def test_empty_or_quoted_arguments_become_object(arguments: str, read: dict[str, Any]) -> None:
    deltas = [call(0, arguments, "tool")]
    assert accumulated(written(deltas))["content"][0]["input"] == read
    assert whole(deltas)["content"][0]["input"] == read


@pytest.mark.parametrize(
    ("deltas", "reason", "stop_reason"),
    [
        ([{"content": "x"}], "stop", "end_turn"),
        ([{"content": "x"}], "length", "max_tokens"),
        ([{"content": "x"}], "content_filter", "refusal"),
        ([{"refusal": "No."}], "stop", "refusal"),
        ([call(0, "{}", "tool")], "tool_calls", "tool_use"),
        ([call(0, "{}", "tool")], "stop", "tool_use"),
        ([call(0, "{}", "tool")], "length", "max_tokens"),
        ([{"content": "x"}], "tool_calls", "end_turn"),
        ([{"content": "x"}], "some_new_reason", "end_turn"),
    ],
)
def test_finish_reason_becomes_stop_reason(deltas: list[Delta], reason: str, stop_reason: str) -> None:
    assert accumulated(written(deltas, reason))["stop_reason"] == stop_reason
    assert whole(deltas, reason)["stop_reason"] == stop_reason


def test_usage_counts_cached_input_apart() -> None:
    usage = accumulated(written([{"content": "x"}]))["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]) == (8, 8, 4)
    assert (usage["output_tokens"], usage["output_tokens_details"]["thinking_tokens"]) == (7, 3)


def test_parallel_calls_of_one_number_stay_apart() -> None:
    """Some servers number all parallel calls 0."""
    first, second = call(0, '{"a":1}', "one"), call(0, '{"b":2}', "two")
    second["tool_calls"][0]["id"] = "other"
    blocks = accumulated(written([first, second]))["content"]
    assert [(block["name"], block["input"]) for block in blocks] == [("one", {"a": 1}), ("two", {"b": 2})]
