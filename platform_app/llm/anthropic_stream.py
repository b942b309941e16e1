"""Anthropic's stream events (https://docs.claude.com/en/build-with-claude/streaming) as OpenAI's chunks.

One chunk for each event that says something: the role, pieces of text, of thinking and of tool calls by their index,
the reason of the end, and at last the usage.
"""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from platform_app.llm import anthropic_errors
from platform_app.llm import provider_errors as errors
from platform_app.llm.answers import ChatChunk
from platform_app.llm.anthropic_answer import envelope, finish_reason, refusal_of, usage_of
from platform_app.llm.usage import merged_counts

Fields = dict[str, Any]


class MessageReader:
    """Reads one message's events; see EventReader. Events of types that are not known here are passed over."""

    __slots__ = ("_block", "_calls", "_envelope", "_finished", "_had_input", "_usage", "complete")

    def __init__(self) -> None:
        self.complete = False
        self._envelope: Fields | None = None
        self._usage: Fields = {}
        self._block: Fields = {}  # the one that is open
        self._had_input = False
        self._calls = 0
        self._finished = False

    def read(self, data: bytes) -> ChatChunk | None:
        """See EventReader.read."""
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise errors.bad_response("an event of the stream is not valid JSON") from None
        if not isinstance(event, dict) or not isinstance(event.get("type"), str):
            raise errors.bad_response("an event of the stream has no type")
        kind = event["type"]
        if kind == "error":
            raise anthropic_errors.error_from_event(event.get("error"))
        if self.complete:
            return None
        if self._envelope is None and kind in _HANDLERS and kind != "message_start":
            raise errors.bad_response("the stream does not begin with a message")
        handler = _HANDLERS.get(kind)
        return handler(self, event) if handler else None

    def at_end(self) -> None:
        """See EventReader.at_end."""
        raise errors.bad_response("the stream ended before the answer was complete")

    def _start(self, event: Fields) -> ChatChunk:
        message = _object(event, "message")
        self._envelope = envelope(message, "chat.completion.chunk")
        self._count(message.get("usage"))
        self._usage.pop("output_tokens", None)  # counted before there was any content
        return self._counted({"role": "assistant", "content": ""})

    def _start_block(self, event: Fields) -> ChatChunk | None:
        block = self._block = dict(_object(event, "content_block"))
        self._had_input = False
        match block.get("type"):
            case "text":
                return self._chunk({"content": block["text"]}) if block.get("text") else None
            case "tool_use":
                function = {"name": str(block.get("name")), "arguments": ""}
                call = {"index": self._calls, "id": str(block.get("id")), "type": "function", "function": function}
                self._calls += 1
                return self._chunk({"tool_calls": [call]})
            case _:
                return None

    def _delta(self, event: Fields) -> ChatChunk | None:
        match _object(event, "delta"):
            case {"type": "text_delta", "text": str(text)}:
                return self._chunk({"content": text})
            case {"type": "input_json_delta", "partial_json": str(piece)} if self._block.get("type") == "tool_use":
                return self._arguments(piece) if piece else None
            case {"type": "thinking_delta", "thinking": str(text)}:
                self._block["thinking"] = str(self._block.get("thinking") or "") + text
                return self._chunk({"reasoning_content": text})
            case {"type": "signature_delta", "signature": str(signature)}:
                self._block["signature"] = str(self._block.get("signature") or "") + signature
        return None

    def _stop_block(self, event: Fields) -> ChatChunk | None:
        block, self._block = self._block, {}
        match block.get("type"):
            case "tool_use" if not self._had_input:
                return self._arguments(orjson.dumps(block.get("input") or {}).decode())
            case "thinking" | "redacted_thinking":
                return self._chunk({"thinking_blocks": [block]})
            case _:
                return None

    def _end_message(self, event: Fields) -> ChatChunk:
        delta = _object(event, "delta")
        self._count(event.get("usage"))
        self._finished = True
        refusal = refusal_of(delta)
        return self._counted({"refusal": refusal} if refusal else {}, finish_reason(delta.get("stop_reason")))

    def _stop(self, event: Fields) -> ChatChunk:
        if not self._finished:
            raise errors.bad_response("the stream ended before the answer was complete")
        self.complete = True
        body = {**(self._envelope or {}), "choices": [], "usage": usage_of(self._usage)}
        return ChatChunk(orjson.dumps(body), body, self._usage)

    def _arguments(self, piece: str) -> ChatChunk:
        self._had_input = True
        return self._chunk({"tool_calls": [{"index": self._calls - 1, "function": {"arguments": piece}}]})

    def _count(self, usage: object) -> None:
        """Counts are cumulative, and the last event repeats only some of them, or says 0 of the others."""
        self._usage = merged_counts(self._usage, usage)

    def _counted(self, delta: Fields, reason: str | None = None) -> ChatChunk:
        """A chunk that says what has been counted so far; the client is told at the end."""
        made = self._chunk(delta, reason)
        return ChatChunk(made.raw, made.body, self._usage) if self._usage else made

    def _chunk(self, delta: Fields, reason: str | None = None) -> ChatChunk:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        body = {**(self._envelope or {}), "choices": [choice]}
        return ChatChunk(orjson.dumps(body), body)


_HANDLERS: Mapping[str, Callable[[MessageReader, Fields], ChatChunk | None]] = {
    "message_start": MessageReader._start,
    "content_block_start": MessageReader._start_block,
    "content_block_delta": MessageReader._delta,
    "content_block_stop": MessageReader._stop_block,
    "message_delta": MessageReader._end_message,
    "message_stop": MessageReader._stop,
}


def _object(event: Fields, name: str) -> Fields:
    value = event.get(name)
    if not isinstance(value, dict):
        raise errors.bad_response(f"an event of the stream lacks its {name}")
    return value
