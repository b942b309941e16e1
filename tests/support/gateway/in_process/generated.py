"""What a model generated, and how each wire format writes it: as a whole response, and as a stream's events.

The same `Generated` can be sent by a provider of any format, so tests can compare what clients of each format rebuild.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PROMPT_TOKENS, OUTPUT_TOKENS = 19, 17
SIGNATURE, ENCRYPTED = "c2lnbmF0dXJl", "gAAAencrypted"
"""The provider's own proof of a thought: of Anthropic's, and of the Responses API's."""


@dataclass(frozen=True)
class Segment:
    """A text, a thought, or a call of a tool, in the parts in which it arrives."""

    kind: str
    """text, thought or call."""
    parts: tuple[str, ...]
    name: str = ""
    """The name of a called tool."""

    @property
    def whole(self) -> str:
        """All parts together."""
        return "".join(self.parts)


@dataclass(frozen=True)
class Generated:
    """A model's output."""

    segments: tuple[Segment, ...]
    order: tuple[int, ...]
    """The segments in the order of their parts in a stream. A segment is listed once for each of its parts."""
    cut: bool = False
    """Whether the limit of output tokens ended it."""

    @property
    def text(self) -> str:
        """The text of all segments."""
        return "".join(each.whole for each in self.segments if each.kind == "text")

    @property
    def calls(self) -> list[tuple[str, str]]:
        """The name and the arguments of each call."""
        return [(each.name, each.whole) for each in self.segments if each.kind == "call"]

    @property
    def reason(self) -> str:
        """Why it ended: stop, length or tool_calls."""
        return "length" if self.cut else "tool_calls" if self.calls else "stop"

    def numbers(self) -> dict[int, int]:
        """Return the number of each call among the calls, by its segment."""
        calls = [at for at, each in enumerate(self.segments) if each.kind == "call"]
        return {at: number for number, at in enumerate(calls)}

    def steps(self) -> Sequence[tuple[int, str, str]]:
        """Return each segment's number with `start`, `part` and its text, or `end`, in the stream's order.

        Segments start in their own order.
        """
        left = {at: list(each.parts) for at, each in enumerate(self.segments)}
        steps: list[tuple[int, str, str]] = []
        started = 0
        for at in self.order:
            while started <= at:
                steps.append((started, "start", ""))
                started += 1
            steps.append((at, "part", left[at].pop(0)))
            if not left[at]:
                steps.append((at, "end", ""))
        return steps


def whole_of(wire: str, made: Generated) -> dict[str, Any]:
    """Return the whole response of a provider of this wire format."""
    match wire:
        case "anthropic":
            return _message(made, [_block(made, at) for at in range(len(made.segments))], _stop_reason(made))
        case "openai-responses":
            return _response(made, "incomplete" if made.cut else "completed")
        case _:
            return _completion(made)


def events_of(wire: str, made: Generated) -> list[bytes]:
    """Return the events of the stream of a provider of this wire format."""
    match wire:
        case "anthropic":
            return _anthropic_events(made)
        case "openai-responses":
            return _responses_events(made)
        case _:
            return _chat_events(made)


def ends_at(wire: str, events: Sequence[bytes]) -> int:
    """Return the index of the event without which the response is not complete."""
    if wire in ("anthropic", "openai-responses"):
        return len(events) - 1
    return len(events) - 3  # before the usage and [DONE]


def error_event(wire: str) -> bytes:
    """Return the provider's event of a failure."""
    match wire:
        case "anthropic":
            return _named({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
        case "openai-responses":
            return _named(
                {"type": "error", "code": "server_error", "message": "It failed.", "param": None, "sequence_number": 9}
            )
        case _:
            return b'data: {"error": {"message": "It failed.", "type": "server_error", "code": "server_error"}}\n\n'


ODD = {
    "openai": (b": a comment\n\n", b"data:\n\n"),
    "azure": (b": a comment\n\n", b"data:\n\n"),
    "anthropic": (b": a comment\n\n", b'event: ping\ndata: {"type": "ping"}\n\n'),
    "openai-responses": (b": a comment\n\n", b"data:\n\n"),
}
"""Events without content that providers and their proxies send between others."""

_USAGE = {
    "prompt_tokens": PROMPT_TOKENS, "completion_tokens": OUTPUT_TOKENS, "total_tokens": PROMPT_TOKENS + OUTPUT_TOKENS,
}  # fmt: skip


def _completion(made: Generated) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": made.text or None}
    if thoughts := "".join(each.whole for each in made.segments if each.kind == "thought"):
        message["reasoning_content"] = thoughts
    if made.calls:
        message["tool_calls"] = [
            {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for number, (name, arguments) in enumerate(made.calls)
        ]
    choice = {"index": 0, "message": message, "finish_reason": made.reason}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "up", "choices": [choice], "usage": _USAGE}


def _chat_events(made: Generated) -> list[bytes]:
    def chunk(delta: object, reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return _chunk({"choices": [choice]})

    numbers = made.numbers()
    events = [chunk({"role": "assistant", "content": ""})]
    for at, step, text in made.steps():
        segment = made.segments[at]
        if segment.kind == "call" and step == "start":
            function = {"name": segment.name, "arguments": ""}
            call: dict[str, Any] = {"index": numbers[at], "id": f"call_{numbers[at]}", "type": "function"}
            events.append(chunk({"tool_calls": [{**call, "function": function}]}))
        elif segment.kind == "call" and step == "part":
            events.append(chunk({"tool_calls": [{"index": numbers[at], "function": {"arguments": text}}]}))
        elif step == "part":
            events.append(chunk({"content" if segment.kind == "text" else "reasoning_content": text}))
    return [*events, chunk({}, made.reason), _chunk({"choices": [], "usage": _USAGE}), b"data: [DONE]\n\n"]


def _chunk(fields: dict[str, Any]) -> bytes:
    body = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "up", **fields}
    return b"data: %b\n\n" % json.dumps(body).encode()


def _stop_reason(made: Generated) -> str:
    return {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}[made.reason]


def _message(made: Generated, content: list[Any], reason: str | None) -> dict[str, Any]:
    usage = {"input_tokens": PROMPT_TOKENS, "output_tokens": OUTPUT_TOKENS if reason else 1}
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "up", "content": content,
        "stop_reason": reason, "stop_sequence": None, "usage": usage,
    }  # fmt: skip


def _block(made: Generated, at: int, *, empty: bool = False) -> dict[str, Any]:
    segment = made.segments[at]
    match segment.kind:
        case "text":
            return {"type": "text", "text": "" if empty else segment.whole}
        case "thought":
            return {
                "type": "thinking",
                "thinking": "" if empty else segment.whole,
                "signature": "" if empty else SIGNATURE,
            }
        case _:
            given = {} if empty else json.loads(segment.whole)
            return {"type": "tool_use", "id": f"toolu_{at}", "name": segment.name, "input": given}


def _anthropic_events(made: Generated) -> list[bytes]:
    events = [_named({"type": "message_start", "message": _message(made, [], None)})]
    names = {"text": ("text_delta", "text"), "thought": ("thinking_delta", "thinking")}
    for at, step, text in made.steps():
        kind, member = names.get(made.segments[at].kind, ("input_json_delta", "partial_json"))
        if step == "start":
            block = _block(made, at, empty=True)
            events.append(_named({"type": "content_block_start", "index": at, "content_block": block}))
        elif step == "part":
            delta = {"type": kind, member: text}
            events.append(_named({"type": "content_block_delta", "index": at, "delta": delta}))
        else:
            if made.segments[at].kind == "thought":
                signature = {"type": "signature_delta", "signature": SIGNATURE}
                events.append(_named({"type": "content_block_delta", "index": at, "delta": signature}))
            events.append(_named({"type": "content_block_stop", "index": at}))
    ended = {"stop_reason": _stop_reason(made), "stop_sequence": None}
    usage = {"output_tokens": OUTPUT_TOKENS}
    return [
        *events, _named({"type": "message_delta", "delta": ended, "usage": usage}), _named({"type": "message_stop"})
    ]  # fmt: skip


def _response(made: Generated, status: str) -> dict[str, Any]:
    done = status != "in_progress"
    usage = {
        "input_tokens": PROMPT_TOKENS, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": OUTPUT_TOKENS, "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": PROMPT_TOKENS + OUTPUT_TOKENS,
    }  # fmt: skip
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "up", "status": status, "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None, "metadata": {}, "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto",
        "tools": [], "top_p": 1.0, "output": [_item(made, at) for at in range(len(made.segments))] if done else [],
        "usage": usage if done else None,
    }  # fmt: skip


def _item(made: Generated, at: int, *, empty: bool = False) -> dict[str, Any]:
    segment = made.segments[at]
    status = "in_progress" if empty else "completed"
    match segment.kind:
        case "text":
            part = {"type": "output_text", "text": segment.whole, "annotations": [], "logprobs": []}
            content = [] if empty else [part]
            return {"id": f"i_{at}", "type": "message", "role": "assistant", "status": status, "content": content}
        case "thought":
            summary = [] if empty else [{"type": "summary_text", "text": segment.whole}]
            item = {"id": f"i_{at}", "type": "reasoning", "summary": summary}
            return item if empty else {**item, "encrypted_content": ENCRYPTED}
        case _:
            arguments = "" if empty else segment.whole
            return {
                "id": f"i_{at}", "type": "function_call", "status": status, "call_id": f"call_{at}",
                "name": segment.name, "arguments": arguments,
            }  # fmt: skip


def _responses_events(made: Generated) -> list[bytes]:
    events: list[bytes] = []

    def add(kind: str, **fields: Any) -> None:
        events.append(_named({"type": f"response.{kind}", "sequence_number": len(events), **fields}))

    add("created", response=_response(made, "in_progress"))
    add("in_progress", response=_response(made, "in_progress"))
    for at, step, text in made.steps():
        segment = made.segments[at]
        place = {"item_id": f"i_{at}", "output_index": at}
        if step == "start":
            add("output_item.added", output_index=at, item=_item(made, at, empty=True))
        match segment.kind:
            case "text":
                part, name, inner = {"type": "output_text", "annotations": [], "logprobs": []}, "output_text", "content"
            case "thought":
                part, name, inner = {"type": "summary_text"}, "reasoning_summary_text", "summary"
            case _:
                part, name, inner = {}, "function_call_arguments", ""
        if inner:
            place[f"{inner}_index"] = 0
        of_part = "content_part" if inner == "content" else "reasoning_summary_part"
        more: dict[str, Any] = {"logprobs": []} if name == "output_text" else {}
        if step == "start" and inner:
            add(f"{of_part}.added", **place, part={**part, "text": ""})
        elif step == "part":
            add(f"{name}.delta", **place, delta=text, **more)
        elif step == "end":
            add(f"{name}.done", **place, **{"text" if inner else "arguments": segment.whole}, **more)
            if inner:
                add(f"{of_part}.done", **place, part={**part, "text": segment.whole})
            add("output_item.done", output_index=at, item=_item(made, at))
    status = "incomplete" if made.cut else "completed"
    add(status, response=_response(made, status))
    return events


def _named(body: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (str(body["type"]).encode(), json.dumps(body).encode())
