"""The grammar of a Responses stream: which events may follow each other, and what they must repeat.

    stream   = created (in_progress | queued)* item-event* (completed | incomplete)
             | created (in_progress | queued)* item-event* error? failed
    item     = output_item.added, the events of its parts, output_item.done; items may interleave
    part     = part added, deltas, text done, part done

Source: the types of the package `openai` (types/responses) and OpenAI's own streams.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TERMINAL = ("response.completed", "response.incomplete", "response.failed")
_LIFECYCLE = ("response.created", "response.queued", "response.in_progress", *TERMINAL)


class GrammarError(AssertionError):
    """The stream is not valid; the message says at which event and why."""


@dataclass
class Rebuilt:
    """What a client has after the last event."""

    terminal: str
    response: Mapping[str, Any]
    """The Response object of the terminal event."""
    items: Sequence[Mapping[str, Any]]
    """The items as output_item.done has them, by their index."""
    error: Mapping[str, Any] | None = None
    """The `error` event before response.failed."""


def parse_events(raw: bytes) -> list[dict[str, Any]]:
    """Return the data of each event. Raises GrammarError if an `event:` line differs from the data's type, or the last
    event is cut off."""
    if raw and not raw.endswith(b"\n\n"):
        raise GrammarError(f"the stream ends inside of an event: {raw[-80:]!r}")
    events = []
    for block in raw.decode().split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if not lines:
            continue
        if len(lines) != 2 or not lines[0].startswith("event: ") or not lines[1].startswith("data: "):
            raise GrammarError(f"an event has other lines than event and data: {lines!r}")
        data = json.loads(lines[1].removeprefix("data: "))
        if data.get("type") != lines[0].removeprefix("event: "):
            raise GrammarError(f"the event line {lines[0]!r} differs from the type {data.get('type')!r}")
        events.append(data)
    return events


def check_stream(raw: bytes) -> Rebuilt:
    """Check the bytes of a whole stream, and return what they build."""
    return check_events(parse_events(raw))


def check_events(events: Iterable[Mapping[str, Any]]) -> Rebuilt:
    """Check the data of all events in order, and return what they build. Raises GrammarError."""
    state = _Stream()
    for position, event in enumerate(events):
        try:
            state.read(event)
        except GrammarError as error:
            raise GrammarError(f"event {position} ({event.get('type')}): {error}") from None
    return state.result()


@dataclass
class _Part:
    kind: str
    text: list[str] = field(default_factory=list)
    finished: bool = False
    done: bool = False


@dataclass
class _Item:
    item: Mapping[str, Any]
    parts: dict[tuple[str, int], _Part] = field(default_factory=dict)
    text: list[str] = field(default_factory=list)
    text_done: bool = False
    done: Mapping[str, Any] | None = None


_PART_EVENTS = {
    "response.content_part": ("content_index", "part"),
    "response.reasoning_summary_part": ("summary_index", "part"),
}
_TEXT_EVENTS = {
    "response.output_text": ("content_index", "output_text", "text"),
    "response.refusal": ("content_index", "refusal", "refusal"),
    "response.reasoning_text": ("content_index", "reasoning_text", "text"),
    "response.reasoning_summary_text": ("summary_index", "summary_text", "text"),
}
_CALL_EVENTS = {
    "response.function_call_arguments": ("function_call", "arguments"),
    "response.custom_tool_call_input": ("custom_tool_call", "input"),
}


class _Stream:
    def __init__(self) -> None:
        self._id: object = None
        self._number = -1
        self._items: list[_Item] = []
        self._error: Mapping[str, Any] | None = None
        self._terminal: tuple[str, Mapping[str, Any]] | None = None

    def read(self, event: Mapping[str, Any]) -> None:
        _require(self._terminal is None, "comes after the terminal event")
        number = event.get("sequence_number")
        _require(number == self._number + 1, f"has the sequence number {number} after {self._number}")
        self._number += 1
        kind = str(event.get("type"))
        if self._number == 0:
            _require(kind == "response.created", "is the first event")
        if self._error is not None:
            _require(kind == "response.failed", "comes after an error")
        if kind in _LIFECYCLE:
            self._lifecycle(kind, event)
        elif kind == "error":
            _require(isinstance(event.get("message"), str), "has no message")
            self._error = event
        elif kind == "response.output_item.added":
            _require(event["output_index"] == len(self._items), "has an index that is not the next one")
            ids = [each.item.get("id") for each in self._items]
            _require(event["item"].get("id") not in ids, "repeats an id")
            self._items.append(_Item(event["item"]))
        elif kind == "response.output_item.done":
            self._end_item(self._item(event, event["item"].get("id")), event["item"])
        else:
            self._inside(kind, event)

    def result(self) -> Rebuilt:
        if self._terminal is None:
            raise GrammarError("the stream has no terminal event")
        items = [item.done for item in self._items if item.done is not None]
        return Rebuilt(*self._terminal, items, self._error)

    def _lifecycle(self, kind: str, event: Mapping[str, Any]) -> None:
        response = event["response"]
        if kind == "response.created":
            _require(self._number == 0, "is repeated")
            self._id = response["id"]
        _require(response["id"] == self._id, "has another response id")
        _require(response["object"] == "response", "has no Response object")
        status = kind.removeprefix("response.")
        _require(kind == "response.created" or response["status"] == status, f"has status {response['status']}")
        if kind not in TERMINAL:
            _require(not self._items, "comes after an item")
            return
        self._terminal = kind, response
        if kind == "response.failed":
            _require(isinstance(response.get("error"), dict), "has no error")
            return
        _require(response.get("error") is None, "has an error")
        _require((response.get("incomplete_details") is None) == (kind == "response.completed"), "has a wrong reason")
        _require(all(item.done is not None for item in self._items), "comes before the end of an item")
        done = [item.done for item in self._items]
        _require(response["output"] == done, f"has another output than its items: {response['output']} {done}")

    def _item(self, event: Mapping[str, Any], item_id: object) -> _Item:
        index: int = event["output_index"]
        _require(0 <= index < len(self._items), f"belongs to item {index}, which was not added")
        item: _Item = self._items[index]
        _require(item.item.get("id") == item_id, f"has the item id {item_id}")
        _require(item.done is None, "belongs to an item that is done")
        return item

    def _end_item(self, item: _Item, done: Mapping[str, Any]) -> None:
        _require(done["type"] == item.item["type"], "has another type than the item")
        _require(all(part.done for part in item.parts.values()), "comes before the end of a part")
        match done["type"]:
            case "message":
                texts = [part.get("text", part.get("refusal")) for part in done["content"]]
                built = ["".join(part.text) for part in item.parts.values()]
                _require(texts == built, f"has the content {texts} instead of {built}")
            case "function_call" | "custom_tool_call":
                member = "arguments" if done["type"] == "function_call" else "input"
                _require(item.text_done, "comes before the end of its arguments")
                _require(done[member] == "".join(item.text), "has other arguments than its deltas")
                _require(done["call_id"] == item.item["call_id"] and done["name"] == item.item["name"], "is another")
        item.done = done

    def _inside(self, kind: str, event: Mapping[str, Any]) -> None:
        name, _, action = kind.rpartition(".")
        item = self._item(event, event.get("item_id"))
        if name in _PART_EVENTS:
            index, member = _PART_EVENTS[name]
            self._part(item, action, (index, event[index]), event[member])
        elif name in _TEXT_EVENTS:
            index, part_kind, member = _TEXT_EVENTS[name]
            part = item.parts.get((index, event[index]))
            if part is None:
                raise GrammarError("belongs to a part that was not added")
            _require(part.kind == part_kind, f"belongs to a part of type {part.kind}")
            _require(not part.finished, "comes after the end of the text")
            if action == "delta":
                part.text.append(event["delta"])
            else:
                part.finished = True
                _require(event[member] == "".join(part.text), "has another text than its deltas")
        elif name in _CALL_EVENTS:
            item_kind, member = _CALL_EVENTS[name]
            _require(item.item["type"] == item_kind, f"belongs to an item of type {item.item['type']}")
            _require(not item.text_done, "comes after the end of the arguments")
            if action == "delta":
                item.text.append(event["delta"])
            else:
                item.text_done = True
                _require(event[member] == "".join(item.text), "has other arguments than its deltas")
        else:
            _require(kind == "response.output_text.annotation.added", "is not known")

    def _part(self, item: _Item, action: str, place: tuple[str, int], given: Mapping[str, Any]) -> None:
        if action == "added":
            _require(place[1] == len(item.parts), "has an index that is not the next one")
            item.parts[place] = _Part(given["type"])
            return
        part = item.parts.get(place)
        if part is None:
            raise GrammarError("belongs to a part that was not added")
        _require(part.finished and not part.done, "comes before the end of the text, or is repeated")
        _require(given.get("text", given.get("refusal")) == "".join(part.text), "has another text than its deltas")
        part.done = True


def _require(valid: bool, problem: str) -> None:
    if not valid:
        raise GrammarError(problem)
