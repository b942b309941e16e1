"""What a client of each format rebuilds from a whole response, and from a stream with the SDK's accumulator."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from openai import omit
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from tests.support.gateway.chat_routes import ChatRoute, stream_data
from tests.support.providers.streams import responses_grammar
from tests.support.providers.streams.messages_grammar import check_messages_grammar, events_of


@dataclass(frozen=True)
class Message:
    """A model's message, in the terms of chat completions."""

    text: str
    calls: tuple[tuple[str, Any], ...]
    """The name and the parsed arguments of each call."""
    reason: str
    """stop, length or tool_calls."""
    usage: tuple[int, int] | None
    """The tokens of the prompt and of the completion."""
    thoughts: str = ""


_ANTHROPIC_REASONS = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls"}


def message_in(route: ChatRoute, body: Mapping[str, Any]) -> Message:
    """Return the message of a whole response."""
    match route.name:
        case "chat":
            choice = body["choices"][0]
            message = choice["message"]
            calls = [each["function"] for each in message.get("tool_calls") or ()]
            return Message(
                message.get("content") or "",
                tuple((call["name"], json.loads(call["arguments"])) for call in calls),
                choice["finish_reason"],
                _pair(body.get("usage"), "prompt_tokens", "completion_tokens"),
                message.get("reasoning_content") or "",
            )
        case "responses":
            return _of_response(body)
        case _:
            return _of_message(body)


def message_of_stream(route: ChatRoute, raw: bytes) -> Message:
    """Return the message that the official SDK accumulates from a stream, whose grammar is checked."""
    match route.name:
        case "chat":
            return message_in(route, _accumulated_chat(raw))
        case "responses":
            rebuilt = responses_grammar.check_stream(raw)
            accumulated = _accumulated_response(raw)
            if accumulated is not None:
                assert _of_response(accumulated) == _of_response(rebuilt.response)
            return _of_response(rebuilt.response)
        case _:
            return _of_message(_accumulated_message(raw))


def check_failure(route: ChatRoute, raw: bytes) -> None:
    """Require that a stream ends in the format's own error."""
    match route.name:
        case "chat":
            *chunks, last = stream_data(raw)
            assert isinstance(last["error"]["message"], str)
            assert b"[DONE]" not in raw
            assert all("error" not in chunk for chunk in chunks)
        case "responses":
            assert responses_grammar.check_stream(raw).terminal == "response.failed"
        case _:
            assert not check_messages_grammar(events_of(raw), interleaved=True)


def _accumulated_chat(raw: bytes) -> dict[str, Any]:
    assert raw.endswith(b"data: [DONE]\n\n")
    state = ChatCompletionStreamState()
    for data in stream_data(raw):
        state.handle_chunk(ChatCompletionChunk.model_validate(data))
    done: dict[str, Any] = state.current_completion_snapshot.model_dump()
    return done


def _accumulated_response(raw: bytes) -> dict[str, Any] | None:
    """Return the response that the SDK accumulates; None for an incomplete one, of which it keeps none."""
    read: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    state: Any = ResponseStreamState(text_format=omit, input_tools=[])
    for data in stream_data(raw):
        event = read.validate_python(data)
        state.handle_event(event)
    completed: dict[str, Any] | None = state._completed_response and state._completed_response.model_dump()
    return completed


def _accumulated_message(raw: bytes) -> dict[str, Any]:
    assert check_messages_grammar(events_of(raw), interleaved=True)
    read: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for data in stream_data(raw):
        if data["type"] != "ping":
            snapshot = accumulate_event(event=read.validate_python(data), current_snapshot=snapshot, json_bufs=buffers)
    done: dict[str, Any] = snapshot.model_dump()
    return done


def _of_response(body: Mapping[str, Any]) -> Message:
    texts, calls, thoughts = [], [], []
    for item in body["output"]:
        match item["type"]:
            case "message":
                texts += [part["text"] for part in item["content"]]
            case "function_call":
                calls.append((item["name"], json.loads(item["arguments"])))
            case "reasoning":
                parts = [*(item.get("summary") or ()), *(item.get("content") or ())]
                thoughts += [part["text"] for part in parts]
    reason = "length" if body["status"] == "incomplete" else "tool_calls" if calls else "stop"
    usage = _pair(body.get("usage"), "input_tokens", "output_tokens")
    return Message("".join(texts), tuple(calls), reason, usage, "".join(thoughts))


def _of_message(body: Mapping[str, Any]) -> Message:
    blocks = body["content"]
    return Message(
        "".join(block["text"] for block in blocks if block["type"] == "text"),
        tuple((block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"),
        _ANTHROPIC_REASONS[body["stop_reason"]],
        _pair(body.get("usage"), "input_tokens", "output_tokens"),
        "".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
    )


def _pair(usage: Any, prompt: str, completion: str) -> tuple[int, int] | None:
    return None if usage is None else (usage[prompt], usage[completion])
