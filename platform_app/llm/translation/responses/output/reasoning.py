"""The item of reasoning: its text is a summary, and its encrypted content is for the next turn."""

from collections.abc import Mapping, Sequence
from typing import Any

from platform_app.llm.translation.carried import carry_thinking
from platform_app.llm.translation.responses.output.events import EventWriter, text_prefix

Item = dict[str, Any]


class ReasoningItem:
    """Reasoning until the next content of another kind. The text is in a summary, the place that clients show."""

    kind = "reasoning"

    def __init__(self, events: EventWriter, item_id: str, index: int) -> None:
        self._events = events
        self._id = item_id
        self._index = index
        self._place = {"item_id": item_id, "output_index": index, "summary_index": 0}
        self._prefix = text_prefix("response.reasoning_summary_text.delta", self._place)
        self._texts: list[str] = []
        self._fields: dict[str, list[str]] = {}
        self._blocks: list[Mapping[str, Any]] = []

    def start(self) -> bytes:
        """Return the event that adds the item."""
        item = {"id": self._id, "type": "reasoning", "summary": []}
        return self._events.event("response.output_item.added", {"output_index": self._index, "item": item})

    def add(self, field: str, text: str) -> bytes:
        """Add reasoning that a chat server sent in this field."""
        started = b""
        if not self._texts:
            part = {"type": "summary_text", "text": ""}
            started = self._events.event("response.reasoning_summary_part.added", {**self._place, "part": part})
        self._texts.append(text)
        self._fields.setdefault(field, []).append(text)
        return started + self._events.text_event(self._prefix, text, b"")

    def keep(self, blocks: Sequence[Mapping[str, Any]]) -> None:
        """Keep Anthropic's signed blocks of this reasoning."""
        self._blocks += blocks

    def finish(self, _: str) -> bytes:
        """Return the events that end the item."""
        item, ended = self.item(""), b""
        if self._texts:
            part = item["summary"][0]
            ended = self._events.event(
                "response.reasoning_summary_text.done", {**self._place, "text": part["text"]}
            ) + self._events.event("response.reasoning_summary_part.done", {**self._place, "part": part})
        return ended + self._events.event("response.output_item.done", {"output_index": self._index, "item": item})

    def item(self, _: str) -> Item:
        """Return the item; reasoning has no status."""
        text = "".join(self._texts)
        summary = [{"type": "summary_text", "text": text}] if text else []
        blocks = self._blocks or [{"type": name, name: "".join(texts)} for name, texts in self._fields.items()]
        encrypted = carry_thinking(blocks) if blocks else None
        return {"id": self._id, "type": "reasoning", "summary": summary, "encrypted_content": encrypted}


class GivenItem:
    """A reasoning item of the Responses API, which a provider sent beside its chat completion. It is unchanged."""

    kind = "reasoning"

    def __init__(self, events: EventWriter, item: Mapping[str, Any], item_id: str, index: int) -> None:
        self._events = events
        self._item = {"id": item_id, "summary": [], **item, "type": "reasoning"}
        self._index = index

    def start(self) -> bytes:
        """Return the event that adds the item."""
        item = {"id": self._item["id"], "type": "reasoning", "summary": []}
        return self._events.event("response.output_item.added", {"output_index": self._index, "item": item})

    def finish(self, _: str) -> bytes:
        """Return the event that ends the item."""
        fields = {"output_index": self._index, "item": self._item}
        return self._events.event("response.output_item.done", fields)

    def item(self, _: str) -> Item:
        """Return the item."""
        return self._item
