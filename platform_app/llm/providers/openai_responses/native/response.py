"""Responses and events that pass unchanged, because the client speaks the Responses API too.

The gateway only reads them: the usage, the length of what was generated, and whether the response has ended.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from platform_app.llm.formats import ApiFormat
from platform_app.llm.providers.openai_responses.fields import finish_reason, items_of, parts_of
from platform_app.llm.responses import ChatChunk, ModelResponse
from platform_app.llm.usage.counts import Reported, TokenUsage, parse_usage
from platform_app.llm.usage.token_estimate import latin_length
from platform_app.value_types import request_dataclass

TERMINAL = ("response.completed", "response.incomplete")
"""The types of the events that end a response that did not fail."""
_BEFORE_CONTENT = frozenset(
    {"response.created", "response.in_progress", "response.queued", "keepalive", "ping",
     "response.reasoning_summary_part.added", "response.content_part.added"}
)  # fmt: skip
_NOT_GENERATED = frozenset(
    {"id", "type", "status", "role", "call_id", "encrypted_content", "annotations", "logprobs", "result", "phase",
     "partial_image_b64", "obfuscation"}
)  # fmt: skip
_NO_TEXT = ("response.audio.delta", "response.image_generation_call.partial_image")
"""Events whose content is base64."""
_MAX_DEPTH = 8


@request_dataclass(frozen=True, slots=True)
class ResponsesResponse(ModelResponse):
    """A `response` object. `raw` are the provider's bytes."""

    format: ClassVar[ApiFormat] = ApiFormat.RESPONSES

    @property
    def generated(self) -> Sequence[Any]:
        """The items of the output."""
        return list(items_of(self.body))

    @property
    def message(self) -> Mapping[str, Any]:
        """The texts of the output as a chat's message."""
        texts = [
            part["text"]
            for item in items_of(self.body)
            for part in parts_of(item, "content", "output_text")
            if isinstance(part.get("text"), str)
        ]
        return {"role": "assistant", "content": "".join(texts)}

    @property
    def finish_reason(self) -> str | None:
        """The reason why the response ended, by the names of chats."""
        return finish_reason(self.body)

    @property
    def usage(self) -> TokenUsage | None:
        """See ModelResponse.usage."""
        return parse_usage(self.body.get("usage"))

    @property
    def reported(self) -> Reported | None:
        """See ModelResponse.reported."""
        return _reported(self.body)

    @property
    def characters(self) -> int:
        """See ModelResponse.characters."""
        return sum(characters_of(item) for item in items_of(self.body))


@request_dataclass(frozen=True, slots=True)
class ResponsesEvent(ChatChunk):
    """One event; `body` has its type. `raw` are the provider's bytes of its data."""

    format: ClassVar[ApiFormat] = ApiFormat.RESPONSES

    @property
    def head(self) -> Mapping[str, Any]:
        """The `response` object of the first and the last events; empty for others."""
        response = self.body.get("response")
        return response if isinstance(response, dict) else {}

    @property
    def id(self) -> str | None:
        """The provider's id of the response, on events that have it."""
        given = self.head.get("id")
        return given if isinstance(given, str) else None

    @property
    def text(self) -> str:
        """The text that this event adds to the output."""
        delta = self.body.get("delta")
        return delta if self.body.get("type") == "response.output_text.delta" and isinstance(delta, str) else ""

    @property
    def delta(self) -> Mapping[str, Any]:
        """The event's text as a chat's delta."""
        text = self.text
        return {"content": text} if text else {}

    @property
    def finish_reason(self) -> str | None:
        """The reason why the response ended, by the names of chats; set on the last event."""
        return finish_reason(self.head) if self.last else None

    @property
    def usage(self) -> TokenUsage | None:
        """See ChatChunk.usage."""
        return parse_usage(self.head.get("usage")) if self.last else None

    @property
    def reported(self) -> Reported | None:
        """See ChatChunk.reported."""
        return _reported(self.head) if "response" in self.body else None

    @property
    def last(self) -> bool:
        """Whether the response has ended with this event."""
        return self.body.get("type") in TERMINAL

    @property
    def carries_content(self) -> bool:
        """See ChatChunk.carries_content. An item or a part that was added without content is no content."""
        body = self.body
        kind = body.get("type")
        if "delta" in body:
            return bool(body["delta"])
        if kind == "response.output_item.added":
            item = body.get("item")
            return isinstance(item, dict) and (item.get("type") not in ("message", "reasoning") or _is_filled(item))
        if kind in ("response.content_part.added", "response.reasoning_summary_part.added"):
            part = body.get("part")
            return isinstance(part, dict) and bool(part.get("text") or part.get("refusal"))
        return kind not in _BEFORE_CONTENT

    @property
    def characters(self) -> int:
        """See ChatChunk.characters. Events that repeat texts at the end of a part or an item count as 0."""
        body = self.body
        delta = body.get("delta")
        if isinstance(delta, str):
            return 0 if body.get("type") in _NO_TEXT else latin_length(delta)
        if body.get("type") == "response.output_item.added":
            item = body.get("item")
            name = item.get("name") if isinstance(item, dict) else None
            return latin_length(name) if isinstance(name, str) else 0
        return 0


def characters_of(item: Mapping[str, Any]) -> int:
    """Return the length of an item's generated content, in characters of Latin script."""
    return _nested(item, 0)


def _reported(response: Mapping[str, Any]) -> Reported | None:
    usage = response.get("usage")
    counts = parse_usage(usage)
    return None if counts is None or not isinstance(usage, dict) else (usage, counts)


def _is_filled(item: Mapping[str, Any]) -> bool:
    return bool(item.get("content") or item.get("summary"))


def _nested(value: object, depth: int) -> int:
    if isinstance(value, str):
        return latin_length(value)
    if depth == _MAX_DEPTH:
        return 0
    if isinstance(value, dict):
        return sum(_nested(inner, depth + 1) for name, inner in value.items() if name not in _NOT_GENERATED)
    return sum(_nested(inner, depth + 1) for inner in value) if isinstance(value, list) else 0
