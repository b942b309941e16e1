"""Translate Anthropic's stream events (https://docs.claude.com/en/build-with-claude/streaming) to OpenAI's chunks.

Each event with content becomes one chunk: the role, parts of text, thinking and tool calls by their index, the finish
reason, and at the end the usage.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import orjson

from platform_app.llm import errors
from platform_app.llm.codecs import lenient_json
from platform_app.llm.codecs.exact_json import may_lose_digits, parse_exactly
from platform_app.llm.providers.anthropic.chat.response import (
    arguments_of,
    call_of,
    envelope,
    finish_reason,
    is_signed,
    refusal_of,
    usage_of,
)
from platform_app.llm.providers.anthropic.errors import error_from_event
from platform_app.llm.providers.error_body import is_error_body, is_error_list
from platform_app.llm.providers.json_reading import OddEvents
from platform_app.llm.responses import ChatChunk
from platform_app.llm.usage.counts import merged_counts

Fields = dict[str, Any]


class _Block:
    """A content block that is open. Several may be open at once; `index` identifies them."""

    __slots__ = ("call", "fields", "had_input", "input", "thinking")

    def __init__(self, fields: Fields, call: int) -> None:
        self.fields = fields
        self.call = call
        """The index of the tool call, if the block is one."""
        self.had_input = False
        self.input = "{}"
        """The arguments of a tool call that arrived with its start."""
        self.thinking: list[str] = []


class AnthropicEventDecoder:
    """Decodes the events of one message; see EventDecoder. Events of unknown types are skipped, and so are events that
    are not objects, which have no content."""

    trailing: ClassVar[None] = None
    """The last event has the last chunk."""
    __slots__ = ("_blocks", "_calls", "_data", "_envelope", "_finished", "_last", "_odd", "_usage", "complete")

    def __init__(self) -> None:
        self.complete = False
        self._envelope: Fields | None = None
        self._usage: Fields = {}
        self._blocks: dict[object, _Block] = {}
        self._last: object = None  # the index of the block opened last
        self._calls = 0
        self._finished = False
        self._odd = OddEvents()
        self._data = b""

    def decode(self, data: bytes) -> ChatChunk | None:
        """See EventDecoder.decode."""
        self._data = data
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            return self._chunk_of(self._odd.read(data.strip()))
        if isinstance(event, dict) and event.get("type") == "content_block_delta" and self._envelope is not None:
            return self._delta(event)  # fast path for nearly every event
        return self._chunk_of(event)

    def _chunk_of(self, event: Any) -> ChatChunk | None:
        if not isinstance(event, dict):
            if is_error_list(event):
                raise error_from_event(event)
            return None
        kind = event.get("type")
        handler = _HANDLERS.get(kind) if isinstance(kind, str) else None
        if handler is None:
            if is_error_body(event):
                raise error_from_event(event)
            return None
        if self.complete:
            return None
        if self._envelope is None and kind != "message_start":
            raise errors.bad_response("the stream does not begin with message_start")
        return handler(self, event)

    def finish(self) -> None:
        """See EventDecoder.finish."""
        raise self._odd.incomplete()

    def _start(self, event: Fields) -> ChatChunk:
        message = _object(event, "message")
        self._envelope = envelope(message, "chat.completion.chunk")
        self._count(message.get("usage"))
        self._usage.pop("output_tokens", None)  # a count from before there was any content
        return self._counted({"role": "assistant", "content": ""})

    def _start_block(self, event: Fields) -> ChatChunk | None:
        fields = dict(_object(event, "content_block"))
        block = self._open(event.get("index"), fields)
        match fields.get("type"):
            case "text":
                return self._chunk({"content": fields["text"]}) if fields.get("text") else None
            case "tool_use":
                call = {"index": block.call, **call_of(fields, "")}
                self._calls += 1
                if fields.get("input"):  # some servers send all arguments at once
                    block.input = self._input_of(fields)
                return self._chunk({"tool_calls": [call]})
            case _:
                return None

    def _delta(self, event: Fields) -> ChatChunk | None:
        match _object(event, "delta"):
            case {"type": "text_delta", "text": str(text)}:
                return self._chunk({"content": text})
            case {"type": "input_json_delta", "partial_json": str(part)}:
                block = self._block(event)
                is_call = block.fields.get("type") == "tool_use"
                return self._arguments(block, part) if part and is_call else None
            case {"type": "thinking_delta", "thinking": str(text)}:
                self._block(event).thinking.append(text)
                return self._chunk({"reasoning_content": text})
            case {"type": "signature_delta", "signature": str(signature)}:
                fields = self._block(event).fields
                fields["signature"] = str(fields.get("signature") or "") + signature
        return None

    def _stop_block(self, event: Fields) -> ChatChunk | None:
        block = self._block(event)
        self._blocks = {key: each for key, each in self._blocks.items() if each is not block}
        fields = block.fields
        match fields.get("type"):
            case "tool_use" if not block.had_input:
                return self._arguments(block, block.input)
            case "thinking" | "redacted_thinking":
                if block.thinking:
                    fields["thinking"] = str(fields.get("thinking") or "") + "".join(block.thinking)
                return self._chunk({"thinking_blocks": [fields]}) if is_signed(fields) else None
            case _:
                return None

    def _input_of(self, fields: Fields) -> str:
        exact = parse_exactly(self._data) if may_lose_digits(self._data) else None
        return arguments_of(fields, None if exact is None else exact["content_block"])

    def _open(self, index: object, fields: Fields) -> _Block:
        key = index if isinstance(index, int) else self._last
        self._last = key
        block = self._blocks[key] = _Block(fields, self._calls)
        return block

    def _block(self, event: Fields) -> _Block:
        """Return the block of an event; the block opened last if the event has no index."""
        index = event.get("index", self._last)
        block = self._blocks.get(index if isinstance(index, int) else self._last)
        return block if block is not None else _Block({}, 0)

    def _end_message(self, event: Fields) -> ChatChunk:
        delta = _object(event, "delta")
        self._count(event.get("usage"))
        if not delta.get("stop_reason"):  # the counts so far
            return self._counted({})
        self._finished = True
        refusal = refusal_of(delta)
        return self._counted({"refusal": refusal} if refusal else {}, finish_reason(delta.get("stop_reason")))

    def _stop(self, event: Fields) -> ChatChunk:
        if not self._finished:
            raise self._odd.incomplete()
        self.complete = True
        body = {**(self._envelope or {}), "choices": [], "usage": usage_of(self._usage)}
        return ChatChunk(lenient_json.dumps(body), body, self._usage)

    def _arguments(self, block: _Block, part: str) -> ChatChunk:
        block.had_input = True
        return self._chunk({"tool_calls": [{"index": block.call, "function": {"arguments": part}}]})

    def _count(self, usage: object) -> None:
        """Merge a usage object. Counts are running totals, and the last event repeats only some of them, or has 0 for
        others."""
        self._usage = merged_counts(self._usage, usage)

    def _counted(self, delta: Fields, reason: str | None = None) -> ChatChunk:
        """Return a chunk with the counts so far for the gateway; the client gets them at the end."""
        made = self._chunk(delta, reason)
        return ChatChunk(made.raw, made.body, self._usage) if self._usage else made

    def _chunk(self, delta: Fields, reason: str | None = None) -> ChatChunk:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        body = {**(self._envelope or {}), "choices": [choice]}
        return ChatChunk(lenient_json.dumps(body), body)


_HANDLERS: Mapping[str, Callable[[AnthropicEventDecoder, Fields], ChatChunk | None]] = {
    "message_start": AnthropicEventDecoder._start,
    "content_block_start": AnthropicEventDecoder._start_block,
    "content_block_delta": AnthropicEventDecoder._delta,
    "content_block_stop": AnthropicEventDecoder._stop_block,
    "message_delta": AnthropicEventDecoder._end_message,
    "message_stop": AnthropicEventDecoder._stop,
}


def _object(event: Fields, name: str) -> Fields:
    value = event.get(name)
    if not isinstance(value, dict):
        raise errors.bad_response(f"an event of the stream lacks its {name}")
    return value
