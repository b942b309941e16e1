"""Convert a whole message to the events of a stream, and events to a whole message.

Some servers always stream, and some never do, whatever the request says; see stream_conversion.py.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from platform_app.llm import errors
from platform_app.llm.codecs import lenient_json
from platform_app.llm.codecs.partial_json import object_of_start
from platform_app.llm.providers.anthropic.chat.response import arguments_of, exact_blocks
from platform_app.llm.providers.anthropic.native.response import AnthropicEvent, AnthropicMessage
from platform_app.llm.responses import ChatChunk, ModelResponse
from platform_app.llm.usage.counts import merged_counts

Fields = dict[str, Any]
_OF_END = ("stop_reason", "stop_sequence", "stop_details", "container", "context_management")
"""Members of a message that a stream sends in `message_delta`."""
_CUT = ("max_tokens", "model_context_window_exceeded", "refusal")
_OPENED_EMPTY: Mapping[str, Fields] = {
    "text": {"text": ""},
    "thinking": {"thinking": "", "signature": ""},
    "tool_use": {"input": {}},
    "server_tool_use": {"input": {}},
    "mcp_tool_use": {"input": {}},
}
"""The member that deltas extend, by the type of a block. Every other block is sent whole at its start."""


def split_message(response: ModelResponse) -> list[ChatChunk]:
    """Return the events of a stream with this message."""
    body = response.body
    usage = body.get("usage")
    counted = usage if isinstance(usage, dict) else {}
    message = {name: value for name, value in body.items() if name not in _OF_END}
    start = {**message, "content": [], "stop_reason": None, "stop_sequence": None}
    start["usage"] = {**counted, "output_tokens": 0}
    end = {name: body[name] for name in _OF_END if name in body}
    events: list[ChatChunk] = [_event({"type": "message_start", "message": start})]
    exact = exact_blocks(response.raw, body)
    for index, block in enumerate(body["content"]):
        if isinstance(block, dict):
            events += _block_events(index, block, None if exact is None else exact[index])
    delta = {"stop_reason": "end_turn", "stop_sequence": None, **end}
    events.append(_event({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 0, **counted}}, counted))
    events.append(_event({"type": "message_stop"}, counted))
    return events


def _block_deltas(block: Fields, exact: Mapping[str, Any] | None) -> tuple[Fields, list[Fields]]:
    """Return a content block at its start, and the deltas that fill it. `exact`: see arguments_of."""
    opened = {**block, **_OPENED_EMPTY.get(str(block.get("type")), {})}
    match block:
        case {"type": "text", "text": str(text)}:
            deltas = [{"type": "text_delta", "text": text}] if text else []
            cited = block.get("citations")
            if isinstance(cited, list):
                opened["citations"] = []
                deltas += [{"type": "citations_delta", "citation": each} for each in cited]
            return opened, deltas
        case {"type": "thinking", "thinking": str(text)}:
            deltas = [{"type": "thinking_delta", "thinking": text}] if text else []
            if block.get("signature"):
                deltas.append({"type": "signature_delta", "signature": block["signature"]})
            return opened, deltas
        case {"type": "tool_use" | "server_tool_use" | "mcp_tool_use"}:
            return opened, [{"type": "input_json_delta", "partial_json": arguments_of(block, exact)}]
        case _:
            return block, []


def assemble_message(events: Iterable[ChatChunk]) -> ModelResponse | None:
    """Return the whole message of these events; None if there are none."""
    message: Fields | None = None
    blocks: list[_Block] = []
    usage: Fields = {}
    for chunk in events:
        event = chunk.body
        match event.get("type"):
            case "message_start":
                message = {**event["message"]}
                usage = merged_counts({}, message.get("usage"))
            case "content_block_start":
                blocks.append(_Block(event["content_block"]))
            case "content_block_delta" if isinstance(event.get("delta"), dict):
                blocks[event["index"]].add(event["delta"])
            case "message_delta" if message is not None:
                message |= event["delta"]
                given = event.get("usage")
                named = given.items() if isinstance(given, dict) else ()
                usage |= {name: value for name, value in named if value is not None}
    if message is None:
        return None
    message["content"] = [block.whole(cut=message.get("stop_reason") in _CUT) for block in blocks]
    message["usage"] = usage
    raw = lenient_json.dumps(message)
    return AnthropicMessage(raw, lenient_json.loads(raw))


class _Block:
    """Collects the deltas of one content block."""

    def __init__(self, start: Mapping[str, Any]) -> None:
        self._fields = dict(start)
        self._input: list[str] = []

    def add(self, delta: Mapping[str, Any]) -> None:
        """Add one delta. A delta of an unknown type extends the members of the block that it names."""
        match delta:
            case {"type": "input_json_delta", "partial_json": str(part)}:
                self._input.append(part)
            case {"type": "citations_delta", "citation": citation}:
                self._fields["citations"] = [*(self._fields.get("citations") or ()), citation]
            case _:
                for name, value in delta.items():
                    if name != "type":
                        self._extend(name, value)

    def _extend(self, name: str, value: object) -> None:
        known = self._fields.get(name)
        if (isinstance(known, str) and isinstance(value, str)) or (isinstance(known, list) and isinstance(value, list)):
            self._fields[name] = known + value  # type: ignore[operator]  # both are of one type
        else:
            self._fields[name] = value

    def whole(self, *, cut: bool) -> Fields:
        """Return the block. Raises ProviderBadResponse if its input is not JSON, unless the response was cut at a
        limit."""
        text = lenient_json.joined("".join(self._input))
        if not text.strip():
            return self._fields
        try:
            orjson.loads(text)
        except orjson.JSONDecodeError:
            if cut:
                return {**self._fields, "input": object_of_start(text)}
            raise errors.unusable_output("the input of a tool is not valid JSON") from None
        return {**self._fields, "input": orjson.Fragment(text)}


def _event(body: Fields, counted: Fields | None = None) -> AnthropicEvent:
    return AnthropicEvent(lenient_json.dumps(body), body, counted or None)


def _block_events(index: int, block: Fields, exact: Mapping[str, Any] | None) -> list[ChatChunk]:
    opened, deltas = _block_deltas(block, exact)
    return [
        _event({"type": "content_block_start", "index": index, "content_block": opened}),
        *(_event({"type": "content_block_delta", "index": index, "delta": delta}) for delta in deltas),
        _event({"type": "content_block_stop", "index": index}),
    ]
