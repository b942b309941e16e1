"""The errors and framing of Anthropic's Messages API. Source: https://docs.claude.com/en/api/errors."""

from collections.abc import Mapping

import orjson

from apps.provider_simulator.formats.wire import Pouring, Problem, Refusal, WireName, bearer_or


class AnthropicWire:
    """See Wire."""

    name: WireName = "messages"

    def key(self, headers: Mapping[str, str]) -> str | None:
        """Implement Wire.key."""
        return bearer_or("x-api-key", headers)

    def refusal(self, problem: Problem) -> Refusal:
        """Implement Wire.refusal."""
        p = problem
        match p.name:
            case "invalid":
                return _refusal(400, "invalid_request_error", f"{p.param}: {p.message}" if p.param else p.message)
            case "no-key":
                return _refusal(401, "authentication_error", "x-api-key header is required")
            case "unknown-url":
                return _refusal(404, "not_found_error", p.message)
            case "bad-request":
                return _refusal(400, "invalid_request_error", "temperature: range: 0..1")
            case "context-length":
                message = "prompt is too long: 210000 tokens > 200000 maximum"
                return _refusal(400, "invalid_request_error", message)
            case "content-filter":
                return _refusal(400, "invalid_request_error", "Output blocked by content filtering policy")
            case "unauthorized":
                return _refusal(401, "authentication_error", "invalid x-api-key")
            case "forbidden":
                message = "Your API key does not have permission to use the specified resource."
                return _refusal(403, "permission_error", message)
            case "not-found":
                return _refusal(404, "not_found_error", f"model: {p.model}")
            case "rate-limited":
                message = "This request would exceed your organization's rate limit of 50 requests per minute."
                return _refusal(429, "rate_limit_error", message, p.value)
            case "quota":
                message = (
                    "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to "
                    "upgrade or purchase credits."
                )
                return _refusal(400, "invalid_request_error", message)
            case "overloaded":
                return _refusal(529, "overloaded_error", "Overloaded", p.value)
            case _:
                return _refusal(500, "api_error", "Internal server error")

    def error_json(self) -> bytes:
        """Implement Wire.error_json."""
        return error_body("api_error", "Internal server error")

    def error_event(self) -> bytes:
        """Implement Wire.error_event."""
        return b"event: error\ndata: " + self.error_json() + b"\n\n"

    def failed_json(self, body: bytes) -> bytes:
        """Implement Wire.failed_json."""
        return self.error_json()

    def failed_event(self, body: bytes) -> bytes:
        """Implement Wire.failed_event."""
        return self.error_event()

    def stream_of(self, data: bytes) -> list[bytes]:
        """Implement Wire.stream_of."""
        return [b"event: message_start\ndata: " + data + b"\n\n", event({"type": "message_stop"})]

    def pouring_json(self, block: bytes) -> Pouring:
        """Implement Wire.pouring_json."""
        head = (
            b'{"id":"msg_huge","type":"message","role":"assistant","model":"huge","stop_reason":"end_turn",'
            b'"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1},"content":[{"type":"text","text":"'
        )
        return Pouring(head, block, b'"}]}')

    def pouring_events(self, model: str, block: bytes) -> Pouring:
        """Implement Wire.pouring_events."""
        delta = {"type": "text_delta", "text": block.decode()}
        return Pouring(
            _start(model), event({"type": "content_block_delta", "index": 0, "delta": delta}), b""
        )  # fmt: skip

    def pouring_line(self, block: bytes) -> Pouring:
        """Implement Wire.pouring_line."""
        return Pouring(b'event: message_start\ndata: {"type":"message_start","message":{"id":"', block, b"")


def event(payload: Mapping[str, object]) -> bytes:
    """One server-sent event, named after its payload's type."""
    return b"event: " + str(payload["type"]).encode() + b"\ndata: " + orjson.dumps(payload) + b"\n\n"


def error_body(kind: str, message: str) -> bytes:
    """Anthropic's error object as JSON."""
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}})


def _refusal(status: int, kind: str, message: str, retry_after: float | None = None) -> Refusal:
    return Refusal(status, error_body(kind, message), retry_after)


def _start(model: str) -> bytes:
    usage = {"input_tokens": 1, "output_tokens": 1}
    message: dict[str, object] = {
        "id": "msg_huge", "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    block = {"type": "text", "text": ""}
    return event({"type": "message_start", "message": message}) + event(
        {"type": "content_block_start", "index": 0, "content_block": block}
    )
