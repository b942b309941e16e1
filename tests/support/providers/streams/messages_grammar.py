"""Check that a sequence of Anthropic's events is one that its clients can read."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

_DELTA_OF = {
    "text": {"text_delta", "citations_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "tool_use": {"input_json_delta"},
    "server_tool_use": {"input_json_delta"},
}
"""The deltas of each type of block; a block of another type may have any."""


def events_of(stream: bytes) -> list[dict[str, Any]]:
    """Return the data of a stream's events. Require that each event is named after its type."""
    events = []
    for part in stream.decode().split("\n\n"):
        lines = [line for line in part.split("\n") if line and not line.startswith(":")]
        if not lines:
            continue
        fields = dict(line.split(": ", 1) for line in lines)
        data = json.loads(fields["data"])
        assert fields["event"] == data["type"], part
        events.append(data)
    return events


def check_messages_grammar(events: Sequence[dict[str, Any]], *, interleaved: bool = False) -> bool:
    """Require a valid sequence, which is complete or ends in an error. Return whether it is complete.

    Args:
        events: the data of the events; `ping` may be anywhere.
        interleaved: whether several blocks may be open, as in a provider's own stream that passes unchanged.
    """
    left = [event for event in events if event["type"] != "ping"]
    if left and left[-1]["type"] == "error":
        assert isinstance(left[-1]["error"]["type"], str)
        _check_blocks(left[:-1], interleaved=interleaved)
        return False
    assert left, "a stream without events"
    assert [event["type"] for event in left[-2:]] == ["message_delta", "message_stop"]
    assert left[-2]["delta"]["stop_reason"], "a complete message has a stop_reason"
    assert isinstance(left[-2]["usage"]["output_tokens"], int)
    open_blocks = _check_blocks(left[:-2], interleaved=interleaved)
    assert not open_blocks, f"blocks without an end: {open_blocks}"
    return True


def _check_blocks(events: Iterable[dict[str, Any]], *, interleaved: bool) -> set[int]:
    """Require message_start and blocks after it. Return the indices of the blocks that are still open."""
    kinds: list[str] = []
    open_blocks: set[int] = set()
    for position, event in enumerate(events):
        kind = event["type"]
        assert (kind == "message_start") == (position == 0), f"{kind} at position {position}"
        if kind == "message_start":
            message = event["message"]
            assert (message["content"], message["stop_reason"], message["role"]) == ([], None, "assistant")
        elif kind == "content_block_start":
            assert event["index"] == len(kinds)
            assert interleaved or not open_blocks, "a block starts while another one is open"
            kinds.append(event["content_block"]["type"])
            open_blocks.add(event["index"])
        elif kind in ("content_block_delta", "content_block_stop"):
            assert event["index"] in open_blocks, f"{kind} of a block that is not open"
            if kind == "content_block_stop":
                open_blocks.remove(event["index"])
            else:
                allowed = _DELTA_OF.get(kinds[event["index"]])
                assert allowed is None or event["delta"]["type"] in allowed
        else:
            assert kind == "message_delta", kind
            assert event["delta"].get("stop_reason") is None or not open_blocks
    return open_blocks
