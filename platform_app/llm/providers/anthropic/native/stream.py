"""Decode Anthropic's events without translating them.

The decoder checks the order of the events (https://docs.claude.com/en/build-with-claude/streaming). A lost event, a
block without an end, and a stream without `message_stop` are failures, since a client would read another message.
Unknown events pass.
"""

from typing import Any, ClassVar

import orjson

from platform_app.llm import errors
from platform_app.llm.codecs import lenient_json
from platform_app.llm.providers.anthropic.errors import error_from_event
from platform_app.llm.providers.anthropic.native.response import AnthropicEvent
from platform_app.llm.providers.error_body import is_error_body, is_error_list
from platform_app.llm.providers.json_reading import OddEvents
from platform_app.llm.usage.counts import merged_counts

Fields = dict[str, Any]


class NativeEventDecoder:
    """Decodes the events of one stream; see EventDecoder. Events that are not objects have no content."""

    trailing: ClassVar[None] = None
    """The last event has the last chunk."""
    __slots__ = ("_blocks", "_finished", "_odd", "_open", "_started", "_usage", "complete")

    def __init__(self) -> None:
        self.complete = False
        self._started = False
        self._finished = False
        self._blocks = 0
        self._open: set[int] = set()
        self._usage: Fields = {}
        self._odd = OddEvents()

    def decode(self, data: bytes) -> AnthropicEvent | None:
        """See EventDecoder.decode."""
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            text = data.strip()
            event = self._odd.read(text)
            return None if event is None else self._event_of(lenient_json.sendable(text), event)
        if isinstance(event, dict) and event.get("type") == "content_block_delta" and self._is_open(event):
            return AnthropicEvent(data, event)  # fast path for nearly every event
        return self._event_of(data, event)

    def finish(self) -> None:
        """See EventDecoder.finish."""
        raise self._odd.incomplete()

    def _event_of(self, data: bytes, event: Any) -> AnthropicEvent | None:
        if not isinstance(event, dict):
            if is_error_list(event):
                raise error_from_event(event)
            return None
        kind = event.get("type")
        if kind == "error" or (not isinstance(kind, str) and is_error_body(event)):
            raise error_from_event(event)
        if not isinstance(kind, str):
            return None
        if kind == "message_start":
            return self._start(data, event)
        if not self._started:
            if kind in _OF_MESSAGE:
                raise errors.bad_response("the stream does not begin with message_start")
            return None  # a ping; clients require message_start first
        match kind:
            case "content_block_start":
                self._start_block(event)
            case "content_block_delta":
                self._require_open(event)
            case "content_block_stop":
                self._require_open(event)
                self._open.discard(event["index"])
            case "message_delta":
                return self._end_message(data, event)
            case "message_stop":
                if not self._finished or self._open:
                    raise self._odd.incomplete()
                self.complete = True
                return AnthropicEvent(data, event, self._usage or None)
        return AnthropicEvent(data, event)

    def _start(self, data: bytes, event: Fields) -> AnthropicEvent:
        message = event.get("message")
        if self._started or not isinstance(message, dict):
            raise errors.bad_response("the stream has a message_start without a message, or a second one")
        self._started = True
        self._usage = merged_counts(self._usage, message.get("usage"))
        self._usage.pop("output_tokens", None)  # a count from before there was any content
        return AnthropicEvent(data, event, self._usage or None)

    def _start_block(self, event: Fields) -> None:
        index = event.get("index")
        if type(index) is not int or index != self._blocks or not isinstance(event.get("content_block"), dict):
            raise errors.bad_response("the stream starts a content block out of order, or without content_block")
        self._open.add(self._blocks)
        self._blocks += 1

    def _require_open(self, event: Fields) -> None:
        if not self._is_open(event):
            raise errors.bad_response("the stream continues a content block that is not open")

    def _is_open(self, event: Fields) -> bool:
        index = event.get("index")
        return type(index) is int and index in self._open  # not 0.0 and False, which are equal to 0

    def _end_message(self, data: bytes, event: Fields) -> AnthropicEvent:
        delta = event.get("delta")
        if not isinstance(delta, dict):
            raise errors.bad_response("an event of the stream lacks its delta")
        self._finished = self._finished or bool(delta.get("stop_reason"))
        self._usage = merged_counts(self._usage, event.get("usage"))
        return AnthropicEvent(data, event, self._usage or None)


_OF_MESSAGE = frozenset(
    {"content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop"}
)
