"""The errors and framing of OpenAI's Responses API: OpenAI's error bodies, and events that have a type.

Source: https://platform.openai.com/docs/api-reference/responses-streaming.
"""

from collections.abc import Mapping

import orjson

from apps.provider_simulator.formats.openai_wire import OpenAIWire, error_body
from apps.provider_simulator.formats.wire import Pouring, Problem, Refusal, WireName
from apps.provider_simulator.model.simulated_model import JsonObject

_SERVER_ERROR = "The server had an error processing your request. Sorry about that!"


class ResponsesWire(OpenAIWire):
    """See Wire."""

    name: WireName = "responses"

    def refusal(self, problem: Problem) -> Refusal:
        """Implement Wire.refusal."""
        invalid = "invalid_request_error"
        match problem.name:
            case "context-length":
                message = "Your input exceeds the context window of this model. Please adjust your input and try again."
                return Refusal(400, error_body(message, invalid, "input", "context_length_exceeded"))
            case "content-filter":
                message = "Invalid prompt: your prompt was flagged as potentially violating our usage policy."
                return Refusal(400, error_body(message, invalid, None, "invalid_prompt"))
            case "no-response":
                return Refusal(404, error_body(problem.message, invalid))
            case _:
                return super().refusal(problem)

    def error_event(self) -> bytes:
        """Implement Wire.error_event."""
        return event({"type": "error", "code": "server_error", "message": _SERVER_ERROR, "param": None}, 7)

    def failed_json(self, body: bytes) -> bytes:
        """Implement Wire.failed_json."""
        return orjson.dumps(_failed(body))

    def failed_event(self, body: bytes) -> bytes:
        """Implement Wire.failed_event."""
        return event({"type": "response.failed", "response": _failed(body)}, 7)

    def stream_of(self, data: bytes) -> list[bytes]:
        """Implement Wire.stream_of."""
        return [b"event: response.created\ndata: " + data + b"\n\n", b"data: [DONE]\n\n"]

    def pouring_json(self, block: bytes) -> Pouring:
        """Implement Wire.pouring_json."""
        head = (
            b'{"id":"resp_huge","object":"response","created_at":0,"model":"huge","status":"completed","error":null,'
            b'"output":[{"id":"msg_huge","type":"message","role":"assistant","status":"completed","content":['
            b'{"type":"output_text","annotations":[],"text":"'
        )
        return Pouring(head, block, b'"}]}]}')

    def pouring_events(self, model: str, block: bytes) -> Pouring:
        """Implement Wire.pouring_events."""
        place = {"item_id": "msg_huge", "output_index": 0, "content_index": 0}
        delta = {"type": "response.output_text.delta", **place, "delta": block.decode(), "logprobs": []}
        return Pouring(_start(model), event(delta, 4), b"")

    def pouring_line(self, block: bytes) -> Pouring:
        """Implement Wire.pouring_line."""
        return Pouring(b'event: response.created\ndata: {"type":"response.created","response":{"id":"', block, b"")


def event(payload: Mapping[str, object], number: int) -> bytes:
    """Return one server-sent event, named after its payload's type."""
    kind = str(payload["type"])
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps({**payload, "sequence_number": number}) + b"\n\n"


def _failed(body: bytes) -> JsonObject:
    error = {"code": "server_error", "message": _SERVER_ERROR}
    failed: JsonObject = {"status": "failed", "error": error, "output": [], "usage": None, "completed_at": None}
    return {**orjson.loads(body), **failed}


def _start(model: str) -> bytes:
    response = {
        "id": "resp_huge", "object": "response", "created_at": 0, "model": model, "status": "in_progress",
        "error": None, "incomplete_details": None, "output": [], "usage": None,
    }  # fmt: skip
    item = {"id": "msg_huge", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    place = {"item_id": "msg_huge", "output_index": 0, "content_index": 0}
    events: list[Mapping[str, object]] = [
        {"type": "response.created", "response": response},
        {"type": "response.in_progress", "response": response},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **place, "part": part},
    ]
    return b"".join(event(each, number) for number, each in enumerate(events))
