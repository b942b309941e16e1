"""Anthropic's events as chat chunks: counts before the end, thinking without a signature, and missing ids."""

import json
from typing import Any

import pytest

from platform_app.errors import ProviderBadResponse
from platform_app.llm.providers.anthropic.chat.response import read_message
from platform_app.llm.providers.anthropic.chat.stream import AnthropicEventDecoder
from platform_app.llm.responses import ChatChunk

START = {"type": "message_start", "message": {"type": "message", "role": "assistant", "content": [], "usage": {}}}


def decoded(*events: dict[str, Any]) -> tuple[AnthropicEventDecoder, list[ChatChunk]]:
    decoder = AnthropicEventDecoder()
    chunks = [decoder.decode(json.dumps(event).encode()) for event in (START, *events)]
    return decoder, [each for each in chunks if each is not None]


@pytest.mark.parametrize("delta", [{}, {"stop_reason": None}])
def test_message_delta_with_counts_alone_ends_nothing(delta: dict[str, Any]) -> None:
    counts = {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 3}}
    decoder, chunks = decoded(counts)
    assert [each.finish_reason for each in chunks] == [None, None]
    assert chunks[-1].reported is not None
    with pytest.raises(ProviderBadResponse):
        decoder.decode(b'{"type": "message_stop"}')


def thinking(signature: str | None) -> list[dict[str, Any]]:
    signed = [] if signature is None else [{"type": "signature_delta", "signature": signature}]
    deltas = [{"type": "thinking_delta", "thinking": "hm"}, *signed]
    return [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
    ]


@pytest.mark.parametrize("signature", [None, "", "sig"])
def test_only_signed_thinking_is_returned_as_blocks(signature: str | None) -> None:
    block = {"type": "thinking", "thinking": "hm", **({} if signature is None else {"signature": signature})}
    expected = [block] if signature else None
    _, chunks = decoded(*thinking(signature))
    blocks = [each.delta["thinking_blocks"] for each in chunks if "thinking_blocks" in each.delta]
    assert blocks == ([expected] if expected else [])
    assert "".join(each.delta.get("reasoning_content", "") for each in chunks) == "hm"
    message = {"type": "message", "content": [block, {"type": "text", "text": "Hi"}], "stop_reason": "end_turn"}
    whole = read_message(json.dumps(message).encode()).message
    assert (whole.get("thinking_blocks"), whole["reasoning_content"]) == (expected, "hm")


def test_missing_ids_are_made() -> None:
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "input": {}}}
    _, chunks = decoded(start)
    body = {"type": "message", "content": [{"type": "tool_use", "name": "f", "input": {}}], "stop_reason": "tool_use"}
    whole = read_message(json.dumps(body).encode())
    assert str(chunks[0].id).startswith("msg_")
    assert str(whole.id).startswith("msg_")
    assert whole.body["model"] == ""
    for call in (chunks[-1].delta["tool_calls"][0], whole.message["tool_calls"][0]):
        assert call["id"].startswith("toolu_")
        assert call["function"]["name"] in ("", "f")
