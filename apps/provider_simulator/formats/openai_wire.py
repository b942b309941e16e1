"""OpenAI's errors and framing. Source: https://platform.openai.com/docs/guides/error-codes."""

from collections.abc import Mapping

import orjson

from apps.provider_simulator.formats.openai_chat import DONE_EVENT, sse_event
from apps.provider_simulator.formats.wire import Pouring, Problem, Refusal, WireName, bearer_or, masked

_INVALID = "invalid_request_error"
_SERVER_ERROR = "The server had an error processing your request. Sorry about that!"


class OpenAIWire:
    """See Wire."""

    name: WireName = "chat"

    def key(self, headers: Mapping[str, str]) -> str | None:
        """Implement Wire.key."""
        return bearer_or("api-key", headers)

    def refusal(self, problem: Problem) -> Refusal:
        """Implement Wire.refusal."""
        p = problem
        match p.name:
            case "invalid":
                return _refusal(400, _INVALID, p.message, p.param)
            case "no-key":
                message = "You didn't provide an API key. Send it as a bearer token in the Authorization header."
                return _refusal(401, _INVALID, message)
            case "unknown-url":
                return _refusal(404, _INVALID, p.message)
            case "bad-request":
                message = "Invalid value for 'temperature': expected at most 2."
                return _refusal(400, _INVALID, message, "temperature", "invalid_value")
            case "context-length":
                message = (
                    "This model's maximum context length is 128000 tokens. However, your messages resulted in "
                    "130000 tokens. Please reduce the length of the messages."
                )
                return _refusal(400, _INVALID, message, "messages", "context_length_exceeded")
            case "content-filter":
                message = "The response was filtered due to the prompt triggering the content management policy."
                return _refusal(400, _INVALID, message, "prompt", "content_filter")
            case "unauthorized":
                message = (
                    f"Incorrect API key provided: {masked(p.key)}. "
                    "You can find your API key at https://platform.openai.com/account/api-keys."
                )
                return _refusal(401, _INVALID, message, code="invalid_api_key")
            case "forbidden":
                message = f"Project `proj_sim` does not have access to model `{p.model}`."
                return _refusal(403, _INVALID, message, code="permission_denied")
            case "not-found":
                message = f"The model `{p.model}` does not exist or you do not have access to it."
                return _refusal(404, _INVALID, message, code="model_not_found")
            case "rate-limited":
                message = f"Rate limit reached for {p.model}: please try again in {p.value:g}s."
                return _refusal(429, "requests", message, code="rate_limit_exceeded", retry_after=p.value)
            case "quota":
                message = "You exceeded your current quota, please check your plan and billing details."
                return _refusal(429, "insufficient_quota", message, code="insufficient_quota")
            case "overloaded":
                message = "The model is currently overloaded with other requests. Please try again later."
                return _refusal(503, "server_error", message, code="server_is_overloaded", retry_after=p.value)
            case _:
                return _refusal(500, "server_error", _SERVER_ERROR)

    def error_json(self) -> bytes:
        """Implement Wire.error_json."""
        return error_body(_SERVER_ERROR, "server_error")

    def error_event(self) -> bytes:
        """Implement Wire.error_event."""
        return b"data: " + self.error_json() + b"\n\n"

    def failed_json(self, body: bytes) -> bytes:
        """Implement Wire.failed_json."""
        return self.error_json()

    def failed_event(self, body: bytes) -> bytes:
        """Implement Wire.failed_event."""
        return self.error_event()

    def stream_of(self, data: bytes) -> list[bytes]:
        """Implement Wire.stream_of."""
        return [b"data: " + data + b"\n\n", DONE_EVENT]

    def pouring_json(self, block: bytes) -> Pouring:
        """Implement Wire.pouring_json."""
        head = (
            b'{"id":"chatcmpl-huge","object":"chat.completion","created":0,"model":"huge","choices":[{"index":0,'
            b'"finish_reason":"stop","logprobs":null,"message":{"role":"assistant","refusal":null,"content":"'
        )
        return Pouring(head, block, b'"}}]}')

    def pouring_events(self, model: str, block: bytes) -> Pouring:
        """Implement Wire.pouring_events."""
        delta = {"index": 0, "delta": {"content": block.decode()}, "logprobs": None, "finish_reason": None}
        head = {"id": "chatcmpl-huge", "object": "chat.completion.chunk", "created": 0, "model": model}
        return Pouring(b"", sse_event({**head, "choices": [delta]}), b"")

    def pouring_line(self, block: bytes) -> Pouring:
        """Implement Wire.pouring_line."""
        return Pouring(b'data: {"id":"chatcmpl-huge","choices":[{"index":0,"delta":{"content":"', block, b"")


def error_body(message: str, kind: str, param: str | None = None, code: str | None = None) -> bytes:
    """OpenAI's error object as JSON."""
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def _refusal(
    status: int,
    kind: str,
    message: str,
    param: str | None = None,
    code: str | None = None,
    retry_after: float | None = None,
) -> Refusal:
    return Refusal(status, error_body(message, kind, param, code), retry_after)
