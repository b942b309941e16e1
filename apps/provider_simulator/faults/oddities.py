"""Undocumented behaviour of real servers: error bodies in other forms, and good responses with unusual bytes.

Each comes from a public report by users of a gateway or a client. This module does no I/O; `faults.py` sends the bytes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import zip_longest

import orjson

from apps.provider_simulator.formats.wire import WireName
from apps.provider_simulator.model.simulated_model import Answer, JsonObject

BOM = b"\xef\xbb\xbf"
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class OddRefusal:
    """An error that has the same form in every wire format, because a server or a proxy on the way sends it."""

    status: int
    body: bytes
    content_type: str = _JSON


def _json_refusal(status: int, body: object) -> OddRefusal:
    return OddRefusal(status, orjson.dumps(body))


_TOO_LONG = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens."
_LOCATED = {"type": "less_than_equal", "loc": ["body", "temperature"], "msg": "Input should be at most 2", "input": 9}
REFUSALS: Mapping[str, OddRefusal] = {
    "detail-list": _json_refusal(422, {"detail": [_LOCATED]}),
    "flat-error": _json_refusal(
        400, {"object": "error", "message": "'top_k' must be at least 1", "type": "BadRequestError", "code": 400}
    ),
    "error-text": _json_refusal(400, {"error": "registry/model does not take this"}),
    "plain-text": OddRefusal(400, b"upstream says: the messages must alternate\r\n", "text/plain"),
    "payment-required": _json_refusal(402, {"detail": "Insufficient balance"}),
    "method-not-allowed": _json_refusal(405, {"detail": "Method Not Allowed"}),
    "conflict": _json_refusal(409, {"message": "The request conflicts with the state of the conversation"}),
    "no-endpoints": _json_refusal(
        404, {"error": {"message": "No endpoints found that support tool use. See the docs.", "code": 404}}
    ),
    "moderation": _json_refusal(
        403,
        {
            "error": {
                "message": 'The model requires moderation and your input was flagged for "violence".',
                "code": 403,
                "metadata": {"reasons": ["violence"], "flagged_input": "…", "provider_name": "P"},
            }
        },
    ),
    "context-words": _json_refusal(400, {"object": "error", "message": _TOO_LONG, "type": "BadRequestError"}),
}
"""By fault name."""

FAILURE_IN_200 = orjson.dumps(
    {"type": "error", "error": {"type": "invalid_request_error", "message": _TOO_LONG, "code": None, "param": None}}
)
"""An error with the status 200, as the body of a response that should be a stream."""


@dataclass(frozen=True, slots=True)
class OddAnswer:
    """How one fault changes a good response."""

    body: Callable[[Answer, WireName], bytes]
    """Builds the JSON response, from the good one and the wire format."""
    events: Callable[[Answer, WireName], list[bytes]]
    """Builds the events of a stream in the same way."""


def _good_body(answer: Answer, wire: WireName) -> bytes:
    return answer.json()


def _filtered_body(answer: Answer, wire: WireName) -> bytes:
    body: JsonObject = orjson.loads(answer.json())
    if wire == "messages":
        return orjson.dumps({**body, "content": None, "stop_reason": "refusal"})
    if wire == "responses":
        return orjson.dumps(_filtered_response(body))
    choice = {"index": 0, "message": None, "finish_reason": "content_filter"}
    return orjson.dumps({**body, "choices": [choice]})


def _filtered_response(body: JsonObject) -> JsonObject:
    return {**body, "status": "incomplete", "incomplete_details": {"reason": "content_filter"}, "output": []}


def _filtered_events(answer: Answer, wire: WireName) -> list[bytes]:
    if wire == "messages":
        error = {"type": "invalid_request_error", "message": "Output blocked by content filtering policy"}
        return [answer.events()[0], b"event: error\ndata: " + orjson.dumps({"type": "error", "error": error}) + b"\n\n"]
    if wire == "responses":
        ended = _filtered_response(orjson.loads(answer.json()))
        last = {"type": "response.incomplete", "response": ended, "sequence_number": 2}
        return [*answer.events()[:2], b"data: " + orjson.dumps(last) + b"\n\n"]
    chunk = {"id": "c", "object": "chat.completion.chunk", "choices": [], "finish_reason": "content_filter"}
    return [b"data: " + orjson.dumps(chunk) + b"\n\n", b"data: [DONE]\n\n"]


_HALVES: Mapping[WireName, bytes] = {
    "messages": (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"thinking_delta","thinking":"\\ud83d"}}\n\n'
    ),
    "responses": (
        b'event: response.reasoning_summary_text.delta\ndata: {"type":"response.reasoning_summary_text.delta",'
        b'"item_id":"rs_odd","output_index":0,"summary_index":0,"delta":"\\ud83d","sequence_number":5}\n\n'
    ),
    "chat": (
        b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
        b'"delta":{"reasoning_content":"\\ud83d"},"logprobs":null,"finish_reason":null}]}\n\n'
    ),
}
"""Events whose text is half of an emoji."""


def _with_half_body(answer: Answer, wire: WireName) -> bytes:
    """Add half an emoji to a member that clients ignore."""
    return answer.json()[:-1] + b',"note":"\\ud83d"}'


def _with_half_events(answer: Answer, wire: WireName) -> list[bytes]:
    return _inserted(answer, _HALVES[wire])


def _null_choices_events(answer: Answer, wire: WireName) -> list[bytes]:
    if wire == "responses":
        return _inserted(answer, b'event: keepalive\ndata: {"type":"keepalive","sequence_number":5}\n\n')
    return _inserted(answer, b'data: {"id":"c","object":"chat.completion.chunk","choices":null}\n\n')


def _empty_events(answer: Answer, wire: WireName) -> list[bytes]:
    nothing = [b"data:\n\n", b"data: null\n\n", b"data: \n\n", b"data: keep-alive\n\n", b": OPENROUTER PROCESSING\n\n"]
    events = _inserted(answer, *nothing)
    return [*events[:-1], events[-1].replace(b"[DONE]", b"[DONE] ")]


def _bom_body(answer: Answer, wire: WireName) -> bytes:
    return BOM + answer.json()


def _bom_events(answer: Answer, wire: WireName) -> list[bytes]:
    first, *rest = [event.replace(b"\n", b"\r") for event in answer.events()]
    return [BOM + first, *rest]


def _role_then_error_body(answer: Answer, wire: WireName) -> bytes:
    return b'{"error": {"type": "api_error", "message": "The server had an error", "code": 500}}'


def _role_then_error_events(answer: Answer, wire: WireName) -> list[bytes]:
    """Return the events before any text, and then a failure."""
    before = answer.events()[: max(answer.before_text, 1) + (wire == "chat" and answer.before_text)]
    error = b'{"type": "error", "error": {"type": "api_error", "message": "The server had an error", "code": 500}}'
    return [*before, b"data: " + error + b"\n\n"]


def _interleaved_events(answer: Answer, wire: WireName) -> list[bytes]:
    """Return the events with interleaved content blocks or tool calls."""
    head: list[bytes] = []
    tail: list[bytes] = []
    blocks: dict[int, list[bytes]] = {}
    for event in answer.events():
        index = _block_of(event)
        if index is not None:
            blocks.setdefault(index, []).append(event)
        elif blocks:
            tail.append(event)
        else:
            head.append(event)
    merged = [event for row in zip_longest(*blocks.values()) for event in row if event is not None]
    return [*head, *merged, *tail]


def _block_of(event: bytes) -> int | None:
    data = event.partition(b"data: ")[2].strip()
    if not data.startswith(b"{"):
        return None
    body = orjson.loads(data)
    for name in ("index", "output_index"):
        if isinstance(body.get(name), int):
            return int(body[name])
    choices = body.get("choices") or [{}]
    calls = choices[0].get("delta", {}).get("tool_calls") if choices else None
    return int(calls[0]["index"]) if calls else None


def _inserted(answer: Answer, *odd: bytes) -> list[bytes]:
    """Return the events with the given ones inserted after the first with text."""
    events = answer.events()
    at = min(answer.before_text + 2, len(events) - 1)
    return [*events[:at], *odd, *events[at:]]


ANSWERS: Mapping[str, OddAnswer] = {
    "filtered": OddAnswer(_filtered_body, _filtered_events),
    "half-surrogate": OddAnswer(_with_half_body, _with_half_events),
    "null-choices": OddAnswer(_good_body, _null_choices_events),
    "empty-events": OddAnswer(_good_body, _empty_events),
    "bom": OddAnswer(_bom_body, _bom_events),
    "role-then-error": OddAnswer(_role_then_error_body, _role_then_error_events),
    "interleaved": OddAnswer(_good_body, _interleaved_events),
}
"""By fault name."""
