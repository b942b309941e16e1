"""The item of a call: of a function, or of a custom tool."""

from collections.abc import Mapping
from typing import Any

from platform_app.llm.translation.responses.output.events import EventWriter, text_prefix

COMPLETED = "completed"


class CallItem:
    """A call. It is added when its name is known. Arguments that arrive before are buffered."""

    def __init__(self, events: EventWriter, call_id: str, namespaces: Mapping[str, tuple[str, str]]) -> None:
        """`call_id` is used if the provider sends none; `namespaces`: see `names_by_flat_name`."""
        self._namespaces = namespaces
        self._events = events
        self._made_id = call_id
        self._texts: list[str] = []
        self._prefix = b""
        self.call_id = ""
        self.name = ""
        self.custom = False
        self.item_id = ""
        """Empty until the item is added."""
        self.index = 0

    @property
    def kind(self) -> str:
        """The item's type."""
        return "custom_tool_call" if self.custom else "function_call"

    @property
    def ready(self) -> bool:
        """Whether enough is known to add the item."""
        return bool(self.name and (self.call_id or not self.empty))

    @property
    def empty(self) -> bool:
        """Whether no arguments have arrived."""
        return not any(self._texts)

    def start(self, item_id: str, index: int) -> bytes:
        """Return the events that add the item, with the arguments so far."""
        self.item_id, self.index = item_id, index
        place = {"item_id": item_id, "output_index": index}
        self._prefix = text_prefix(f"response.{self._event}.delta", place)
        waiting, self._texts = self._texts, []
        added = self._events.event(
            "response.output_item.added", {"output_index": index, "item": self.item("in_progress")}
        )
        return added + b"".join(self.add(text) for text in waiting)

    def add(self, text: str) -> bytes:
        """Add a part of the arguments or the input."""
        if not text:
            return b""
        self._texts.append(text)
        return self._events.text_event(self._prefix, text, b"") if self.item_id else b""

    def finish(self, status: str) -> bytes:
        """Return the events that end the item. A function without arguments gets an empty object, which clients
        parse."""
        ended = b""
        if status == COMPLETED and not self.custom and self.empty:
            ended = self.add("{}")
        item = self.item(status)
        done: dict[str, Any] = {"item_id": self.item_id, "output_index": self.index}
        if self.custom:
            done["input"] = item["input"]
        else:
            done |= {"name": item["name"], "arguments": item["arguments"]}
        ended += self._events.event(f"response.{self._event}.done", done)
        return ended + self._events.event("response.output_item.done", {"output_index": self.index, "item": item})

    def item(self, status: str) -> dict[str, Any]:
        """Return the item with this status."""
        text = "".join(self._texts)
        space, name = self._namespaces.get(self.name, (None, self.name))
        return {
            "id": self.item_id, "type": self.kind, "status": status, "call_id": self.call_id or self._made_id,
            "name": name, **({"namespace": space} if space else {}), "input" if self.custom else "arguments": text,
        }  # fmt: skip

    @property
    def _event(self) -> str:
        return "custom_tool_call_input" if self.custom else "function_call_arguments"
