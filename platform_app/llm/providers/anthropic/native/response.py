"""Anthropic's messages and events without changes, for clients that speak Messages too (docs/adr/0042).

Nothing is translated: unknown fields, blocks and events survive. The classes only read the parts that the gateway
uses.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from platform_app.errors import ContentFiltered
from platform_app.llm import errors
from platform_app.llm.codecs import lenient_json
from platform_app.llm.formats import ApiFormat
from platform_app.llm.providers.anthropic.chat.response import finish_reason, refusal_of
from platform_app.llm.providers.anthropic.errors import error_from_event
from platform_app.llm.providers.error_body import is_error_body, is_error_list
from platform_app.llm.providers.json_reading import parse_response
from platform_app.llm.responses import ChatChunk, ModelResponse, nested_characters
from platform_app.llm.usage.counts import Reported, TokenUsage, parse_usage
from platform_app.llm.usage.token_estimate import latin_length
from platform_app.value_types import request_dataclass

_DELTAS: Mapping[str, str] = {
    "text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json",
}  # fmt: skip
"""The member with the generated text, by the type of a delta."""
_NO_CONTENT = frozenset({"message_start", "ping", "content_block_stop"})


@request_dataclass(frozen=True, slots=True)
class AnthropicMessage(ModelResponse):
    """A whole `message` object."""

    format: ClassVar[ApiFormat] = ApiFormat.MESSAGES

    @property
    def generated(self) -> Sequence[Any]:
        """The message, in the shape of one in a request."""
        return [{"role": "assistant", "content": self.body.get("content")}]

    @property
    def message(self) -> Mapping[str, Any]:
        """The message itself."""
        return self.body

    @property
    def finish_reason(self) -> str | None:
        """OpenAI's name of the stop reason, as in responses that are translated."""
        return _reason(self.body)

    @property
    def usage(self) -> TokenUsage | None:
        """See ModelResponse.usage."""
        return parse_usage(self.body.get("usage"))

    @property
    def reported(self) -> Reported | None:
        """See ModelResponse.reported."""
        return _reported(self.body.get("usage"))

    @property
    def characters(self) -> int:
        """See ModelResponse.characters."""
        content = self.body.get("content")
        return sum(_block_characters(block) for block in content) if isinstance(content, list) else 0


@request_dataclass(frozen=True, slots=True)
class AnthropicEvent(ChatChunk):
    """One event of a stream. `counted` is the usage of the whole response so far, on the events that count."""

    format: ClassVar[ApiFormat] = ApiFormat.MESSAGES

    @property
    def kind(self) -> str:
        """The event's type, which is also its name."""
        return str(self.body.get("type"))

    @property
    def head(self) -> Mapping[str, Any]:
        """The message without content, which `message_start` holds."""
        message = self.body.get("message")
        return message if isinstance(message, dict) else {}

    @property
    def id(self) -> str | None:
        """The message's id, on `message_start`."""
        found = self.head.get("id")
        return found if isinstance(found, str) else None

    @property
    def delta(self) -> Mapping[str, Any]:
        """The event's delta."""
        delta = self.body.get("delta")
        return delta if isinstance(delta, dict) else {}

    @property
    def text(self) -> str:
        """The text that this event adds, without thinking and input of tools."""
        if self.kind == "content_block_start":
            block = _object(self.body.get("content_block"))
            text = block.get("text") if block.get("type") == "text" else None
        else:
            text = self.delta.get("text") if self.delta.get("type") == "text_delta" else None
        return text if isinstance(text, str) else ""

    @property
    def finish_reason(self) -> str | None:
        """OpenAI's name of the stop reason, on `message_delta`."""
        return _reason(self.delta) if self.kind == "message_delta" else None

    @property
    def usage(self) -> TokenUsage | None:
        """See ChatChunk.usage."""
        return parse_usage(self.counted) if self.last else None

    @property
    def reported(self) -> Reported | None:
        """See ChatChunk.reported."""
        return _reported(self.counted)

    @property
    def last(self) -> bool:
        """See ChatChunk.last."""
        return self.kind == "message_stop" or (self.kind == "message_delta" and bool(self.delta.get("stop_reason")))

    @property
    def carries_content(self) -> bool:
        """See ChatChunk.carries_content. The start of a text or of thinking is no content."""
        kind = self.body.get("type")
        if kind == "content_block_delta":
            delta = self.delta
            name = _DELTAS.get(str(delta.get("type")))
            return bool(delta.get(name)) if name is not None else bool(delta)
        if kind == "content_block_start":
            block = _object(self.body.get("content_block"))
            name = str(block.get("type"))
            return bool(block.get(name)) if name in ("text", "thinking") else True
        return kind not in _NO_CONTENT

    @property
    def characters(self) -> int:
        """See ChatChunk.characters."""
        kind = self.body.get("type")
        if kind == "content_block_delta":
            delta = self.delta
            name = _DELTAS.get(str(delta.get("type")))
            text = delta.get(name) if name is not None else None
            return latin_length(text) if isinstance(text, str) else nested_characters(delta) if name is None else 0
        return _block_characters(self.body.get("content_block")) if kind == "content_block_start" else 0


def read_native_message(raw: bytes) -> AnthropicMessage:
    """Return a whole response unchanged. Raises ProviderFailed or RequestRefused if it is not a message."""
    message = parse_response(raw)
    if is_error_list(message):
        raise error_from_event(message)
    if not isinstance(message, dict):
        raise errors.bad_response("the response is not an object")
    if message.get("type") == "message" and isinstance(message.get("content"), list):
        return AnthropicMessage(lenient_json.sendable(raw), message)
    if is_error_body(message):
        raise error_from_event(message)
    if _reason(message) == "content_filter":
        raise errors.make_error(ContentFiltered, refusal_of(message) or "the provider returned no content (refusal)")
    raise errors.bad_response("the response is not a message")


def read_token_count(raw: bytes) -> AnthropicMessage:
    """Return the response of /v1/messages/count_tokens. Raises ProviderFailed if it has no count."""
    body = parse_response(raw)
    count = body.get("input_tokens") if isinstance(body, dict) else None
    if type(count) is int and 0 <= count < 2**53:
        return AnthropicMessage(lenient_json.sendable(raw), body)
    if isinstance(body, dict) and is_error_body(body):
        raise error_from_event(body)
    raise errors.bad_response("the response has no token count")


def _reason(holder: Mapping[str, Any]) -> str | None:
    reason = holder.get("stop_reason")
    return finish_reason(reason) if isinstance(reason, str) else None


def _reported(usage: object) -> Reported | None:
    counts = parse_usage(usage)
    return (usage, counts) if isinstance(usage, dict) and counts is not None else None


def _block_characters(block: object) -> int:
    """Return the length of a block. Results of the provider's own tools are input, so they do not count."""
    if not isinstance(block, dict) or str(block.get("type")).endswith("_result"):
        return 0
    return nested_characters(block)


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
