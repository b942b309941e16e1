"""Responses and their events, drawn at random: what a provider that speaks the Responses API may send."""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

Fields = dict[str, Any]
Draw = Callable[..., Any]
TEXTS = st.text(alphabet='ab \n"\\é€😀', max_size=12)
_PREFIXES = {
    "summary_text": ("response.reasoning_summary_text", "text"),
    "reasoning_text": ("response.reasoning_text", "text"),
    "output_text": ("response.output_text", "text"),
    "refusal": ("response.refusal", "refusal"),
}
_EMPTY: Fields = {"content": [], "summary": [], "arguments": "", "input": ""}
_NOISE = (
    b": keep-alive\n\n",
    b"data:\n\n",
    b"event: ping\ndata: {}\n\n",
    b'event: keepalive\ndata: {"type": "keepalive", "sequence_number": 7}\n\n',
    b'data: {"type": "response.of_tomorrow", "output_index": 0, "delta": {"x": 1}}\n\n',
    b'data: {"type": "response.web_search_call.searching", "output_index": 9, "item_id": "ws"}\n\n',
)


@st.composite
def responses(draw: Draw) -> Fields:
    """Draw a response that has ended."""
    items = [draw(_items(index)) for index in range(draw(st.integers(0, 4)))]
    reason = draw(st.sampled_from([None, None, "max_output_tokens", "content_filter"]))
    if reason == "content_filter" and not any(item["type"] != "reasoning" for item in items):
        reason = None
    details = None if reason is None else {"reason": reason}
    return {
        "id": "resp_1", "object": "response", "created_at": 5, "model": "m", "output": items,
        "status": "completed" if reason is None else "incomplete", "incomplete_details": details, "error": None,
        "usage": draw(st.sampled_from([None, {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}])),
    }  # fmt: skip


@st.composite
def _items(draw: Draw, index: int) -> Fields:
    match draw(st.sampled_from(["message", "message", "reasoning", "function_call", "custom_tool_call", "other"])):
        case "message":
            parts = [draw(_parts()) for _ in range(draw(st.integers(0, 3)))]
            return {
                "id": f"msg_{index}",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": parts,
            }
        case "reasoning":
            summary = [{"type": "summary_text", "text": draw(TEXTS)} for _ in range(draw(st.integers(0, 2)))]
            return {"id": f"rs_{index}", "type": "reasoning", "summary": summary, "encrypted_content": "sealed"}
        case "function_call" as kind:
            call = {"call_id": f"call_{index}", "name": "f", "arguments": json.dumps({"a": draw(TEXTS)})}
            return {"id": f"fc_{index}", "type": kind, "status": "completed", **call}
        case "custom_tool_call" as kind:
            call = {"call_id": f"call_{index}", "name": "g", "input": draw(TEXTS)}
            return {"id": f"ctc_{index}", "type": kind, "status": "completed", **call}
        case _:
            return {"id": f"ws_{index}", "type": "web_search_call", "status": "completed", "action": {"query": "q"}}


@st.composite
def _parts(draw: Draw) -> Fields:
    if draw(st.integers(0, 4)) == 0:
        return {"type": "refusal", "refusal": draw(TEXTS)}
    cited = {"type": "url_citation", "url": "https://example.com", "title": "t", "start_index": 0, "end_index": 1}
    return {"type": "output_text", "text": draw(TEXTS), "annotations": [cited] if draw(st.booleans()) else []}


@st.composite
def event_streams(draw: Draw, response: Fields) -> bytes:
    """Draw the bytes of a stream with this response.

    The events of calls may come between those of other items; items begin in their order. Deltas of any size, or none;
    events of unknown types and comments in between.
    """
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    first = [{"type": "response.created", "response": begun}, {"type": "response.in_progress", "response": begun}]
    ended = {"type": f"response.{response['status']}", "response": response}
    sent = []
    for number, event in enumerate([*first, *draw(_interleaved(response["output"])), ended]):
        if number and draw(st.integers(0, 5)) == 0:
            sent.append(draw(st.sampled_from(_NOISE)))
        data = json.dumps({**event, "sequence_number": number}, ensure_ascii=False).encode()
        name = b"event: %b\n" % event["type"].encode() if draw(st.booleans()) else b""
        sent.append(b"%bdata: %b\n\n" % (name, data))
    return b"".join(sent)


@st.composite
def _interleaved(draw: Draw, items: list[Fields]) -> list[Fields]:
    lanes: list[list[Fields]] = [[]]
    for index, item in enumerate(items):
        events = draw(_events_of_item(index, item))
        if item["type"] in ("function_call", "custom_tool_call"):
            lanes.append(events)
        else:
            lanes[0] += events
    merged: list[Fields] = []
    added = 0
    while any(lanes):
        ready = [
            lane
            for lane in lanes
            if lane and (lane[0]["type"] != "response.output_item.added" or lane[0]["output_index"] == added)
        ]
        event = draw(st.sampled_from(ready)).pop(0)
        added += event["type"] == "response.output_item.added"
        merged.append(event)
    return merged


@st.composite
def _events_of_item(draw: Draw, index: int, item: Fields) -> list[Fields]:
    place = {"output_index": index}
    empty = {name: value for name, value in _EMPTY.items() if name in item}
    events = [{"type": "response.output_item.added", **place, "item": {**item, **empty}}]
    inside = {"item_id": item["id"], **place}
    sends_deltas = draw(st.integers(0, 5)) > 0
    if sends_deltas:
        for number, part in enumerate(item.get("summary", [])):
            events += draw(_events_of_part(part, "reasoning_summary_part", {**inside, "summary_index": number}))
        for number, part in enumerate(item.get("content", [])):
            events += draw(_events_of_part(part, "content_part", {**inside, "content_index": number}))
        for member, prefix in (
            ("arguments", "response.function_call_arguments"), ("input", "response.custom_tool_call_input"),
        ):  # fmt: skip
            if member in item:
                events += draw(_deltas(prefix, member, item[member], inside))
    return [*events, {"type": "response.output_item.done", **place, "item": item}]


@st.composite
def _events_of_part(draw: Draw, part: Fields, kind: str, place: Fields) -> list[Fields]:
    prefix, member = _PREFIXES[part["type"]]
    return [
        {"type": f"response.{kind}.added", **place, "part": {**part, member: ""}},
        *draw(_deltas(prefix, member, part[member], place)),
        {"type": f"response.{kind}.done", **place, "part": part},
    ]


@st.composite
def _deltas(draw: Draw, prefix: str, member: str, text: str, place: Fields) -> list[Fields]:
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=4))) if text else []
    ends = [0, *cuts, len(text)]
    pieces = [text[start:end] for start, end in pairwise(ends)]
    deltas = [{"type": f"{prefix}.delta", **place, "delta": piece} for piece in pieces]
    return [*deltas, {"type": f"{prefix}.done", **place, member: text}]
