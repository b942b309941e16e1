"""Write chat chunks as the events of a Responses stream.

    response.created, response.in_progress
    for each item: output_item.added, its parts and deltas, output_item.done
    response.completed, response.incomplete or response.failed

Reasoning ends at the next content of another kind. A message and the calls stay open until the response ends, since
chunks may return to them in any order. Each item has its output_index, so clients can distinguish them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from platform_app.llm.finish_reasons import CONTENT_FILTER, LENGTH, is_broken_off, kind_of_end, reason_of
from platform_app.llm.message_shapes import CallTable, arguments_of, called_in, calls_of, delta_of
from platform_app.llm.responses import ChatChunk
from platform_app.llm.translation.responses.chat_delta import (
    annotation_of,
    blocks_of,
    logprobs_of,
    reasoning_of,
    text_of,
)
from platform_app.llm.translation.responses.envelope import Envelope
from platform_app.llm.translation.responses.namespaces import declared_tools, names_by_flat_name
from platform_app.llm.translation.responses.output.call import COMPLETED, CallItem
from platform_app.llm.translation.responses.output.events import EventWriter
from platform_app.llm.translation.responses.output.message import MessageItem
from platform_app.llm.translation.responses.output.reasoning import GivenItem, ReasoningItem
from platform_app.llm.usage.counts import TokenUsage

_INCOMPLETE: Mapping[str, str] = {LENGTH: "max_output_tokens", CONTENT_FILTER: "content_filter"}
"""The reason of an incomplete response, by how its choice ended."""


class Item(Protocol):
    """An output item."""

    @property
    def kind(self) -> str:
        """The item's type."""
        ...

    def finish(self, status: str) -> bytes:
        """Return the events that end the item."""
        ...

    def item(self, status: str) -> dict[str, Any]:
        """Return the item with this status."""
        ...


class ResponseWriter:
    """Collects the output of one response and writes its events; with `discard` none, for a response that is not
    streamed."""

    def __init__(self, envelope: Envelope, *, discard: bool = False) -> None:
        self._envelope = envelope
        self._events = EventWriter(discard=discard)
        self._items: list[Item] = []
        self._open: list[Item] = []
        self._reasoning: ReasoningItem | None = None
        self._message: MessageItem | None = None
        self._calls = CallTable[CallItem]()
        self._namespaces: Mapping[str, tuple[str, str]] | None = None
        self._last: Item | None = None
        """The item that got content last: an incomplete response ends in it."""
        self._reason: str | None = None
        self._started = False

    def start(self) -> bytes:
        """Return the first events, once; later an empty text."""
        if self._started:
            return b""
        self._started = True
        fields = {"response": self._envelope.response("in_progress")}
        return self._events.event("response.created", fields) + self._events.event("response.in_progress", fields)

    def chunk(self, chunk: ChatChunk) -> bytes:
        """Return the events of a chunk; an empty text if it has none."""
        choices = chunk.body.get("choices")
        made = b"" if self._started else self.start()
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and not choice.get("index"):  # only one choice is requested
                made += self.choice(choice, delta_of(choice))
        return made

    def choice(self, choice: Mapping[str, Any], delta: object) -> bytes:
        """Return the events of one choice with this delta or message."""
        if choice.get("finish_reason"):
            self._reason = reason_of(choice) or self._reason
        if not isinstance(delta, dict):
            return b""
        made: list[bytes] = []
        if len(delta) > 1 or "content" not in delta:
            made.append(self._think(delta))
        if (text := text_of(delta.get("content"))) or choice.get("logprobs"):
            made.append(self._say(text, logprobs_of(choice)))
        if isinstance(refusal := delta.get("refusal"), str) and refusal:
            message, started = self._open_message()
            made += [started, message.add_refusal(refusal)]
        for annotation in blocks_of(delta, "annotations"):
            message, started = self._open_message()
            made += [started, message.add_annotation(annotation_of(annotation))]
        if calls := calls_of(delta):
            made += self._call(calls)
        return b"".join(made)

    def finish(self, usage: TokenUsage | None) -> bytes:
        """Return the events that end the response: the open items and the terminal event."""
        if self.broken_off:
            return self.fail("server_error", f"The provider ended the response early (finish_reason: {self._reason}).")
        made = self.start() + self._end_items()
        response = self.response(usage)
        return made + self._events.event(f"response.{response['status']}", {"response": response})

    @property
    def broken_off(self) -> bool:
        """Whether the provider gave up before the response was complete."""
        return is_broken_off(self._reason)

    def response(self, usage: TokenUsage | None) -> dict[str, Any]:
        """Return the whole response."""
        self._end_items()
        incomplete = _INCOMPLETE.get(kind_of_end(self._reason) or "")
        output = [item.item(self._status_of(item)) for item in self._items]
        return self._envelope.response("incomplete" if incomplete else COMPLETED, output, usage, incomplete)

    def fail(self, code: str, message: str, error: Mapping[str, Any] | None = None) -> bytes:
        """Return the events of a failure: an `error`, which OpenAI's SDKs raise, and the terminal `response.failed`.
        OpenAI's own streams fail in this way.

        Args:
            code: one of OpenAI's codes of a failed response.
            message: what went wrong.
            error: the error in the shape that SDKs raise; None: made of code and message.
        """
        raised = {"type": "server_error", "code": code, "message": message, "param": None} if error is None else error
        flat = {name: raised.get(name) for name in ("code", "message", "param")}
        failed = self._envelope.response("failed", error={"code": code, "message": message})
        return (
            self.start()
            + self._events.event("error", {**flat, "error": raised})
            + self._events.event("response.failed", {"response": failed})
        )

    def _think(self, delta: Mapping[str, Any]) -> bytes:
        made = b""
        if (found := reasoning_of(delta)) is not None:
            item, made = self._open_reasoning()
            made += item.add(*found)
        if blocks := blocks_of(delta, "thinking_blocks"):
            item, started = self._open_reasoning()
            item.keep(blocks)
            made += started
        for given in blocks_of(delta, "reasoning_items"):
            made += self._end_reasoning()
            index = len(self._items)
            whole = GivenItem(self._events, given, self._envelope.item_id("rs", index), index)
            self._items.append(whole)
            made += whole.start() + whole.finish(COMPLETED)
        return made

    def _say(self, text: str, logprobs: list[Any] | None) -> bytes:
        if not text and logprobs is None:
            return b""
        if self._message is not None and self._reasoning is None:
            self._last = self._message
            return self._message.add_text(text, logprobs)
        message, started = self._open_message()
        return started + message.add_text(text, logprobs)

    def _call(self, calls: Sequence[Mapping[str, Any]]) -> list[bytes]:
        made = [self._end_reasoning()]
        for position, delta in enumerate(calls):
            call, called = self._calls.find(position, delta, self._new_call), called_in(delta)
            if not call.item_id:
                call.custom = call.custom or delta.get("type") == "custom"
                call.call_id = _text(delta.get("id")) or call.call_id
                call.name = _text(called.get("name")) or call.name
            self._last = call
            made.append(call.add(arguments_of(called) or _text(called.get("input"))))
            if not call.item_id and call.ready:
                made.append(self._add_call(call))
        return made

    def _new_call(self) -> CallItem:
        if self._namespaces is None:
            self._namespaces = names_by_flat_name(declared_tools(self._envelope.request))
        return CallItem(self._events, self._envelope.item_id("call", len(self._calls)), self._namespaces)

    def _add_call(self, call: CallItem) -> bytes:
        index = len(self._items)
        self._items.append(call)
        self._open.append(call)
        return call.start(self._envelope.item_id("ctc" if call.custom else "fc", index), index)

    def _open_reasoning(self) -> tuple[ReasoningItem, bytes]:
        started = b""
        if self._reasoning is None:
            index = len(self._items)
            self._reasoning = ReasoningItem(self._events, self._envelope.item_id("rs", index), index)
            self._items.append(self._reasoning)
            started = self._reasoning.start()
        self._last = self._reasoning
        return self._reasoning, started

    def _end_reasoning(self) -> bytes:
        item, self._reasoning = self._reasoning, None
        return b"" if item is None else item.finish(COMPLETED)

    def _open_message(self) -> tuple[MessageItem, bytes]:
        started = self._end_reasoning()
        if self._message is None:
            index = len(self._items)
            self._message = MessageItem(self._events, self._envelope.item_id("msg", index), index)
            self._items.append(self._message)
            self._open.append(self._message)
            started += self._message.start()
        self._last = self._message
        return self._message, started

    def _end_items(self) -> bytes:
        """End all items. A complete response without a message and calls gets an empty message, as OpenAI's have."""
        made = self._end_reasoning()
        for call in self._calls:
            if not call.item_id:
                made += self._add_call(call)
        if kind_of_end(self._reason) is None and all(item.kind == "reasoning" for item in self._items):
            message, started = self._open_message()
            made += started + message.add_text("")
        opened, self._open = self._open, []
        return made + b"".join(item.finish(self._status_of(item)) for item in opened)

    def _status_of(self, item: Item) -> str:
        cut = item is self._last or (isinstance(item, CallItem) and item.empty)
        return "incomplete" if cut and kind_of_end(self._reason) is not None else COMPLETED


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
