"""Read responses and streams that pass unchanged, and convert one to the other if the server sends the wrong one."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from platform_app.llm.codecs import lenient_json
from platform_app.llm.http.event_stream import ResponseReader
from platform_app.llm.providers.json_reading import parse_response
from platform_app.llm.providers.openai_responses.events import EventReader
from platform_app.llm.providers.openai_responses.fields import require_response
from platform_app.llm.providers.openai_responses.native.response import ResponsesEvent, ResponsesResponse
from platform_app.llm.responses import ChatChunk, ModelResponse

Fields = dict[str, Any]


def read_native(raw: bytes) -> ResponsesResponse:
    """Read a whole response. Raises ProviderFailed or RequestRefused if it failed or is not one."""
    body = parse_response(raw)
    return ResponsesResponse(lenient_json.sendable(raw), require_response(body))


class ResponsesEventDecoder:
    """Passes the events of one response on; see EventDecoder. Events after the last one are not read."""

    trailing: ClassVar[None] = None
    """The last event has the last chunk."""
    __slots__ = ("_reader", "complete")

    def __init__(self) -> None:
        self.complete = False
        self._reader = EventReader()

    def decode(self, data: bytes) -> ResponsesEvent | None:
        """See EventDecoder.decode."""
        reader = self._reader
        body = reader.read(data)
        if body is None:
            return None
        event = ResponsesEvent(reader.raw, body)
        if event.last:
            self.complete = True
        elif not reader.has_content:
            reader.has_content = event.carries_content
        return event

    def finish(self) -> None:
        """See EventDecoder.finish."""
        raise self._reader.incomplete()


def split_response(response: ModelResponse) -> list[ChatChunk]:
    """Return the events of a stream with this response."""
    return [
        ResponsesEvent(lenient_json.dumps(body), body)
        for body in ({**event, "sequence_number": number} for number, event in enumerate(_events_of(response.body)))
    ]


def assemble_events(chunks: Iterable[ChatChunk]) -> ModelResponse | None:
    """Return the response of these events: that of the last one, with the items of the events if it has none."""
    last: Mapping[str, Any] | None = None
    items: dict[int, object] = {}
    for chunk in chunks:
        body = chunk.body
        if body.get("type") == "response.output_item.done":
            index = body.get("output_index")
            items[index if isinstance(index, int) else len(items)] = body.get("item")
        elif chunk.last:
            last = chunk.head
    if last is None:
        return None
    whole = dict(last)
    if not whole.get("output"):
        whole["output"] = [items[index] for index in sorted(items)]
    return ResponsesResponse(lenient_json.dumps(whole), whole)


READER = ResponseReader(read_native, ResponsesEventDecoder, split_response, assemble_events)


def _events_of(response: Mapping[str, Any]) -> Iterator[Fields]:
    begun = {**response, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(response["output"]):
        if isinstance(item, dict):
            yield from _events_of_item(index, item)
    ended = "incomplete" if response.get("status") == "incomplete" else "completed"
    yield {"type": f"response.{ended}", "response": response}


def _events_of_item(index: int, item: Mapping[str, Any]) -> Iterator[Fields]:
    place = {"output_index": index}
    emptied = {name: empty for name, empty in _EMPTY.items() if name in item}
    status = {"status": "in_progress"} if "status" in item else {}
    yield {"type": "response.output_item.added", **place, "item": {**item, **emptied, **status}}
    inside = {"item_id": item.get("id"), **place}
    match item.get("type"):
        case "message" | "reasoning":
            for name, numbered in _PARTS.items():
                parts = item.get(name)
                for number, part in enumerate(parts if isinstance(parts, list) else ()):
                    if isinstance(part, dict):
                        yield from _events_of_part(part, name, {**inside, numbered: number})
        case "function_call":
            yield from _texts("response.function_call_arguments", "arguments", item, inside)
        case "custom_tool_call":
            yield from _texts("response.custom_tool_call_input", "input", item, inside)
    yield {"type": "response.output_item.done", **place, "item": item}


_EMPTY: Mapping[str, object] = {"content": [], "summary": [], "arguments": "", "input": ""}
_PARTS = {"summary": "summary_index", "content": "content_index"}
_KINDS = {
    "output_text": ("response.output_text", "text"),
    "refusal": ("response.refusal", "refusal"),
    "reasoning_text": ("response.reasoning_text", "text"),
    "summary_text": ("response.reasoning_summary_text", "text"),
}
"""By the type of a part: the events of its text, and the member that has it."""


def _events_of_part(part: Mapping[str, Any], name: str, place: Fields) -> Iterator[Fields]:
    kind = "response.reasoning_summary_part" if name == "summary" else "response.content_part"
    prefix, member = _KINDS.get(str(part.get("type")), ("", ""))
    empty = {**part, member: ""} if member else part
    if "annotations" in part:
        empty = {**empty, "annotations": []}
    yield {"type": f"{kind}.added", **place, "part": empty}
    if prefix:
        more = {"logprobs": part.get("logprobs") or []} if prefix == "response.output_text" else {}
        yield from _texts(prefix, member, part, place, more)
    yield {"type": f"{kind}.done", **place, "part": part}


def _texts(
    prefix: str, member: str, holder: Mapping[str, Any], place: Fields, more: Mapping[str, Any] | None = None
) -> Iterator[Fields]:
    text = holder.get(member)
    if isinstance(text, str):
        if text:
            yield {"type": f"{prefix}.delta", **place, "delta": text, **(more or {})}
        yield {"type": f"{prefix}.done", **place, member: text, **(more or {})}
