"""The item of a message: its text, with annotations and log probabilities, and a refusal."""

from collections.abc import Mapping
from typing import Any

from platform_app.llm.translation.responses.output.events import EventWriter, text_prefix

Item = dict[str, Any]
_NO_LOGPROBS = b',"logprobs":[]'


class MessageItem:
    """A message. Both parts stay open until the message is done, since chat chunks may return to either."""

    kind = "message"

    def __init__(self, events: EventWriter, item_id: str, index: int) -> None:
        self._events = events
        self._id = item_id
        self._index = index
        self._parts: list[_Part] = []
        self._text: _Part | None = None
        self._refusal: _Part | None = None

    def start(self) -> bytes:
        """Return the event that adds the item."""
        return self._events.event(
            "response.output_item.added",
            {
                "output_index": self._index,
                "item": {
                    "id": self._id, "type": "message", "status": "in_progress", "content": [], "role": "assistant",
                },
            },
        )  # fmt: skip

    def add_text(self, text: str, logprobs: list[Any] | None = None) -> bytes:
        """Add text."""
        started, part = b"", self._text
        if part is None:
            part = self._text = self._part("output_text", "text")
            started = part.start()
        return started + part.add(text, logprobs)

    def add_refusal(self, text: str) -> bytes:
        """Add text of a refusal."""
        started, part = b"", self._refusal
        if part is None:
            part = self._refusal = self._part("refusal", "refusal")
            started = part.start()
        return started + part.add(text, None)

    def add_annotation(self, annotation: Mapping[str, Any]) -> bytes:
        """Add an annotation of the text."""
        started = self.add_text("") if self._text is None else b""
        assert self._text is not None  # noqa: S101 - for mypy: add_text has opened it
        return started + self._text.annotate(annotation)

    def finish(self, status: str) -> bytes:
        """Return the events that end the item."""
        done = b"".join(part.finish() for part in self._parts)
        fields = {"output_index": self._index, "item": self.item(status)}
        return done + self._events.event("response.output_item.done", fields)

    def item(self, status: str) -> Item:
        """Return the item with this status."""
        content = [part.part() for part in self._parts]
        return {"id": self._id, "type": "message", "status": status, "content": content, "role": "assistant"}

    def _part(self, kind: str, member: str) -> "_Part":
        part = _Part(self._events, self._id, self._index, len(self._parts), kind, member)
        self._parts.append(part)
        return part


class _Part:
    """A part of a message: text or a refusal."""

    def __init__(
        self, events: EventWriter, item_id: str, output_index: int, content_index: int, kind: str, member: str
    ) -> None:
        self._events = events
        self._place = {"item_id": item_id, "output_index": output_index, "content_index": content_index}
        self._kind = kind
        self._member = member
        self._texts: list[str] = []
        self._annotations: list[Mapping[str, Any]] = []
        self._logprobs: list[Any] = []
        self._prefix = text_prefix(f"response.{kind}.delta", self._place)
        self._suffix = _NO_LOGPROBS if kind == "output_text" else b""

    def start(self) -> bytes:
        return self._events.event("response.content_part.added", {**self._place, "part": self.part()})

    def add(self, text: str, logprobs: list[Any] | None) -> bytes:
        if not text and not logprobs:
            return b""
        self._texts.append(text)
        if not logprobs:
            return self._events.text_event(self._prefix, text, self._suffix)
        self._logprobs += logprobs
        fields = {**self._place, "delta": text, "logprobs": logprobs}
        return self._events.event("response.output_text.delta", fields)

    def annotate(self, annotation: Mapping[str, Any]) -> bytes:
        fields = {**self._place, "annotation_index": len(self._annotations), "annotation": annotation}
        self._annotations.append(annotation)
        return self._events.event("response.output_text.annotation.added", fields)

    def finish(self) -> bytes:
        part = self.part()
        done: dict[str, Any] = {**self._place, self._member: part[self._member]}
        if self._kind == "output_text":
            done["logprobs"] = self._logprobs
        ended = self._events.event(f"response.{self._kind}.done", done)
        return ended + self._events.event("response.content_part.done", {**self._place, "part": part})

    def part(self) -> Item:
        text = "".join(self._texts)
        if self._kind == "refusal":
            return {"type": "refusal", "refusal": text}
        return {
            "type": "output_text", "annotations": list(self._annotations), "logprobs": list(self._logprobs),
            "text": text,
        }  # fmt: skip
