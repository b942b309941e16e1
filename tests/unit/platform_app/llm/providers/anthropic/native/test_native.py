"""Anthropic's messages and events that pass unchanged to clients that speak Messages."""

import json
from typing import Any

import pytest

from apps.provider_simulator.formats.anthropic_responses import MessageAnswer
from platform_app.errors import ProviderBadResponse, ProviderUnavailable
from platform_app.llm.formats import ApiFormat
from platform_app.llm.providers.anthropic.native.conversion import assemble_message, split_message
from platform_app.llm.providers.anthropic.native.request import native_request
from platform_app.llm.providers.anthropic.native.response import AnthropicEvent, read_native_message
from platform_app.llm.providers.anthropic.native.stream import NativeEventDecoder
from platform_app.llm.requests import UpstreamCall
from platform_app.llm.translation.carried import carry_reasoning
from tests.support.providers.streams.messages_grammar import check_messages_grammar

BODY: dict[str, Any] = {
    "model": "claude", "max_tokens": 4000, "messages": [{"role": "user", "content": "hello"}],
    "thinking": {"type": "enabled", "budget_tokens": 2000},
}  # fmt: skip
START: dict[str, Any] = {
    "type": "message_start",
    "message": {"id": "msg_1", "role": "assistant", "content": [], "usage": {"input_tokens": 3, "output_tokens": 1}},
}


def simulated() -> tuple[bytes, list[bytes]]:
    """Return the simulator's message, and the data of its events."""
    answer = MessageAnswer(BODY, 1)
    return answer.json(), [event.partition(b"data: ")[2].strip() for event in answer.events()]


def decoded(data: list[bytes]) -> list[AnthropicEvent]:
    decoder = NativeEventDecoder()
    events = [event for each in data if (event := decoder.decode(each)) is not None]
    if not decoder.complete:
        decoder.finish()
    return events


def test_events_pass_with_their_bytes() -> None:
    _, data = simulated()
    events = decoded(data)
    assert [event.raw for event in events] == data
    assert events[0].head["id"] == events[0].id
    assert events[-1].last
    counts = events[-1].usage
    assert counts is not None
    assert (counts.prompt_tokens, counts.completion_tokens > 0) == (2, True)
    assert "".join(event.text for event in events) == "You said: hello"


def test_stream_cut_anywhere_is_bad_response() -> None:
    _, data = simulated()
    for length in range(len(data)):
        with pytest.raises(ProviderBadResponse):
            decoded(data[:length])


def test_stream_that_lost_an_event_of_a_block_is_bad_response() -> None:
    """A missing delta cannot be seen; a missing start or end of a block can."""
    _, data = simulated()
    for index, each in enumerate(data):
        if json.loads(each)["type"] in ("message_start", "content_block_start", "content_block_stop", "message_delta"):
            with pytest.raises(ProviderBadResponse):
                decoded([*data[:index], *data[index + 1 :]])


def test_first_content_is_a_delta() -> None:
    """Until then a failure can fall back."""
    _, data = simulated()
    first = next(event for event in decoded(data) if event.carries_content)
    assert first.kind == "content_block_delta"


@pytest.mark.parametrize(
    "event",
    [
        {"type": "ping"},
        {"type": "new_event", "index": 7},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "new_block", "member": [1]}},
    ],
)
def test_unknown_events_and_blocks_survive(event: dict[str, Any]) -> None:
    decoder = NativeEventDecoder()
    decoder.decode(json.dumps(START).encode())
    raw = json.dumps(event).encode()
    passed = decoder.decode(raw)
    assert passed is not None
    assert passed.raw == raw


def test_ping_before_message_start_is_left_out() -> None:
    decoder = NativeEventDecoder()
    assert decoder.decode(b'{"type": "ping"}') is None
    assert decoder.decode(json.dumps(START).encode()) is not None


def test_error_event_becomes_our_error() -> None:
    with pytest.raises(ProviderUnavailable):
        decoded([b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}'])


def test_message_becomes_stream_and_stream_becomes_message() -> None:
    raw, _ = simulated()
    message = read_native_message(raw)
    events = split_message(message)
    assert check_messages_grammar([dict(event.body) for event in events])
    again = assemble_message(events)
    assert again is not None
    assert again.body == message.body
    assert again.characters == message.characters == sum(event.characters for event in events)


def test_input_keeps_digits_when_whole_message_becomes_stream() -> None:
    number = "123456789012345678901234567890"
    block = {"type": "tool_use", "id": "t", "name": "f", "input": {"n": 0}}
    message = {"type": "message", "role": "assistant", "content": [block], "stop_reason": "tool_use", "usage": {}}
    raw = json.dumps(message).replace('"n": 0', f'"n": {number}').encode()
    events = split_message(read_native_message(raw))
    assert any(number in event.raw.decode() for event in events)
    again = assemble_message(events)
    assert again is not None
    assert number.encode() in again.raw


def test_request_passes_but_for_thinking_of_other_providers() -> None:
    """Anthropic refuses a signature that is not its own."""
    own = {"type": "thinking", "thinking": "a", "signature": "EqQB"}
    foreign = {"type": "thinking", "thinking": "b", "signature": carry_reasoning({"type": "reasoning"})}
    text = {"type": "text", "text": "c"}
    turns = [BODY["messages"][0], {"role": "assistant", "content": [own, foreign, text]}]
    body = {"max_tokens": 5, "messages": [*turns, {"role": "assistant", "content": [foreign]}], "new_field": {"x": 1}}
    sent = native_request(UpstreamCall("claude-x", body, 9.0, stream=True, format=ApiFormat.MESSAGES))
    assert sent["messages"] == [turns[0], {"role": "assistant", "content": [own, text]}]
    assert (sent["model"], sent["stream"], sent["new_field"]) == ("claude-x", True, {"x": 1})
