"""Translate Responses events (https://platform.openai.com/docs/api-reference/responses-streaming) to chat chunks.

Each event with content becomes one chunk: the role, parts of text, refusal, reasoning and tool calls by their index,
reasoning items, annotations, and at the end the finish reason with the usage. Servers that send an item without deltas
are read too: at the end of an item, what its deltas did not have is sent.
"""

from collections.abc import Callable, Mapping
from typing import Any

from platform_app.llm.codecs import lenient_json
from platform_app.llm.http.event_stream import ResponseReader
from platform_app.llm.providers.openai_responses.chat.response import (
    BETWEEN_THOUGHTS,
    annotations_of,
    call_of,
    envelope,
    read_as_chat,
    thoughts_of,
    usage_of,
)
from platform_app.llm.providers.openai_responses.events import EventReader
from platform_app.llm.providers.openai_responses.fields import finish_reason, items_of, parts_of, text_in
from platform_app.llm.providers.openai_responses.native.response import TERMINAL
from platform_app.llm.responses import ChatChunk

Fields = dict[str, Any]


class _Item:
    """An item of the output. Several may be open at once."""

    __slots__ = ("call", "sent")

    def __init__(self) -> None:
        self.call: int | None = None
        """The index of the tool call, if the item is one and its start was sent."""
        self.sent: dict[str, int] = {}
        """The characters that were sent, by the member of the delta."""


class ResponsesChatDecoder:
    """Decodes the events of one response; see EventDecoder."""

    __slots__ = (
        "_calls", "_envelope", "_items", "_last", "_new_thought", "_reader", "_role_sent", "_text", "_thought",
        "complete", "trailing",
    )  # fmt: skip

    def __init__(self) -> None:
        self.complete = False
        self.trailing: ChatChunk | None = None
        self._reader = EventReader()
        self._envelope: Fields | None = None
        self._items: dict[object, _Item] = {}
        self._last: object = None  # the key of the item opened last
        self._calls = 0
        self._text = 0
        """The length of the content so far."""
        self._thought = False
        self._new_thought = False
        """Whether a new part of the reasoning has begun after another."""
        self._role_sent = False

    def decode(self, data: bytes) -> ChatChunk | None:
        """See EventDecoder.decode."""
        event = self._reader.read(data)
        if event is None:
            return None
        kind = event["type"]
        if self._envelope is None:
            response = event.get("response")
            self._envelope = envelope(response if isinstance(response, dict) else {}, "chat.completion.chunk")
        if (name := _DELTAS.get(kind)) is not None:
            return self._delta(name, event)
        if kind in TERMINAL:
            return self._end(event["response"])
        handler = _HANDLERS.get(kind)
        delta = None if handler is None else handler(self, event)
        if delta:
            return self._content(delta)
        if not self._role_sent:
            return self._chunk({"role": "assistant", "content": ""})
        return None

    def finish(self) -> None:
        """See EventDecoder.finish."""
        raise self._reader.incomplete()

    def _delta(self, name: str, event: Fields) -> ChatChunk | None:
        text = event.get("delta")
        if not isinstance(text, str) or not text:
            return None
        item = self._item(event)
        if name in ("arguments", "input"):
            delta = self._arguments(item, name, text)
        else:
            delta = {name: self._counted(item, name, text)}
        logprobs = event.get("logprobs") if name == "content" else None
        return self._content(delta, {"content": logprobs, "refusal": None} if logprobs else None)

    def _counted(self, item: _Item, name: str, text: str) -> str:
        """Return a text to send, and count it. The parts of the reasoning are separated."""
        item.sent[name] = item.sent.get(name, 0) + len(text)
        if name == "content":
            self._text += len(text)
        elif name == "reasoning_content":
            text = BETWEEN_THOUGHTS + text if self._new_thought else text
            self._thought, self._new_thought = True, False
        return text

    def _arguments(self, item: _Item, name: str, text: str) -> Fields:
        calls: list[Fields] = []
        if item.call is None:  # the server did not send the start of the call
            calls = self._start_call(item, {"type": "custom_tool_call" if name == "input" else "function_call"})
        item.sent[name] = item.sent.get(name, 0) + len(text)
        part = {"custom": {"input": text}} if name == "input" else {"function": {"arguments": text}}
        return {"tool_calls": [*calls, {"index": item.call, **part}]}

    def _start_call(self, item: _Item, fields: Fields) -> list[Fields]:
        call = call_of(fields)
        if call is None:
            return []
        item.call = self._calls
        self._calls += 1
        for name in ("arguments", "input"):
            if given := text_in(fields, name):
                item.sent[name] = len(given)
        return [{"index": item.call, **call}]

    def _add_item(self, event: Fields) -> Fields | None:
        self._last = _key(event)
        item = self._items[self._last] = _Item()
        fields = event.get("item")
        calls = self._start_call(item, fields) if isinstance(fields, dict) else []
        return {"tool_calls": calls} if calls else None

    def _add_thought(self, event: Fields) -> None:
        part = event.get("part")
        if isinstance(part, dict) and part.get("type") in ("summary_text", "reasoning_text"):
            self._new_thought = self._thought

    def _end_item(self, event: Fields) -> Fields | None:
        fields = event.get("item")
        item = self._item(event)
        return self._rest(item, fields) if isinstance(fields, dict) else None

    def _rest(self, item: _Item, fields: Fields) -> Fields:
        """Return what the deltas of an item did not have."""
        match fields.get("type"):
            case "message":
                return self._rest_of_message(item, fields)
            case "reasoning":
                rest: Fields = {"reasoning_items": [fields]}
                thoughts = list(thoughts_of(fields))
                if thoughts and not item.sent:
                    self._new_thought = self._thought
                    rest["reasoning_content"] = self._counted(
                        item, "reasoning_content", BETWEEN_THOUGHTS.join(thoughts)
                    )
                return rest
            case "function_call" | "custom_tool_call":
                return self._rest_of_call(item, fields)
            case _:
                return {}

    def _rest_of_message(self, item: _Item, fields: Fields) -> Fields:
        rest: Fields = {}
        parts = list(parts_of(fields, "content", "output_text"))
        for name, text in (
            ("content", "".join(text_in(part, "text") for part in parts)),
            ("refusal", "".join(text_in(part, "refusal") for part in parts_of(fields, "content", "refusal"))),
        ):
            missing = text[item.sent.get(name, 0) :]
            if missing:
                rest[name] = self._counted(item, name, missing)
        offset = self._text - sum(len(text_in(part, "text")) for part in parts)
        if annotations := list(annotations_of(parts, max(0, offset))):
            rest["annotations"] = annotations
        return rest

    def _rest_of_call(self, item: _Item, fields: Fields) -> Fields:
        if item.call is None:
            return {"tool_calls": self._start_call(item, fields)}
        name = "input" if fields.get("type") == "custom_tool_call" else "arguments"
        missing = text_in(fields, name)[item.sent.get(name, 0) :]
        return self._arguments(item, name, missing) if missing else {}

    def _end(self, response: Fields) -> ChatChunk:
        self.complete = True
        delta: Fields = {}
        if not self._reader.has_content:  # a server that sends no items
            for fields in items_of(response):
                for name, value in self._rest(_Item(), fields).items():
                    delta[name] = delta[name] + value if name in delta else value
        if not self._role_sent:
            delta = {"role": "assistant", **delta}
        reason = finish_reason(response)
        if reason == "stop" and self._calls:
            reason = "tool_calls"
        if isinstance(counted := response.get("usage"), dict):  # OpenAI's streams have it in a chunk without choices
            body = {**(self._envelope or {}), "choices": [], "usage": usage_of(counted)}
            self.trailing = ChatChunk(lenient_json.dumps(body), body, counted)
        return self._chunk(delta, reason)

    def _item(self, event: Fields) -> _Item:
        """Return the item of an event; the item opened last if the event does not name it."""
        key = _key(event)
        if key is None:
            key = self._last
        item = self._items.get(key)
        if item is None:
            item = self._items[key] = _Item()
        return item

    def _content(self, delta: Fields, logprobs: Fields | None = None) -> ChatChunk:
        self._reader.has_content = True
        return self._chunk(delta, None, logprobs)

    def _chunk(self, delta: Fields, reason: str | None = None, logprobs: Fields | None = None) -> ChatChunk:
        if not self._role_sent:
            self._role_sent = True
            delta = {"role": "assistant", **delta}
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        body = {**(self._envelope or {}), "choices": [choice]}
        return ChatChunk(lenient_json.dumps(body), body)


_DELTAS: Mapping[str, str] = {
    "response.output_text.delta": "content",
    "response.refusal.delta": "refusal",
    "response.reasoning_summary_text.delta": "reasoning_content",
    "response.reasoning_text.delta": "reasoning_content",
    "response.function_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
}
"""The member of a chat's delta for each event with a part of a text."""
_HANDLERS: Mapping[str, Callable[[ResponsesChatDecoder, Fields], Fields | None]] = {
    "response.output_item.added": ResponsesChatDecoder._add_item,
    "response.output_item.done": ResponsesChatDecoder._end_item,
    "response.reasoning_summary_part.added": ResponsesChatDecoder._add_thought,
    "response.content_part.added": ResponsesChatDecoder._add_thought,
}
READER = ResponseReader(read_as_chat, ResponsesChatDecoder)


def _key(event: Fields) -> object:
    """Return what identifies an event's item: its index, which all events of an item repeat."""
    index = event.get("output_index")
    return index if isinstance(index, int) else None
