"""Responses of providers as chat completions, which every wire format can be translated to.

A response that passes in another format than chat (`format`) is a subclass in that format's folder of `providers/`. It
has the same properties: what was used, what was generated, and whether the response has ended.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from platform_app.llm.finish_reasons import reason_of
from platform_app.llm.formats import ApiFormat
from platform_app.llm.message_shapes import delta_of, parts_of, text_of_part
from platform_app.llm.usage.counts import Reported, TokenUsage, parse_usage, read_usage
from platform_app.llm.usage.token_estimate import latin_length
from platform_app.value_types import request_dataclass


@request_dataclass(frozen=True, slots=True)
class ModelResponse:
    """A whole response. The `body` of a chat has at least one choice with a message; embeddings have no choices."""

    raw: bytes
    """The provider's bytes unchanged if its wire format is OpenAI's, else `body` as JSON."""
    body: Mapping[str, Any]
    counted: Mapping[str, Any] | None = None
    """The provider's own usage object, if its wire format is not OpenAI's."""
    format: ClassVar[ApiFormat] = ApiFormat.CHAT
    """The format of `raw` and `body`."""

    @property
    def id(self) -> str | None:
        """The provider's id of this response."""
        return _text(self.body.get("id"))

    @property
    def generated(self) -> Sequence[Any]:
        """What the model generated, in the parts of the format: a chat's messages. Embeddings have none."""
        choices = self.body.get("choices")
        listed = choices if isinstance(choices, list) else ()
        return [choice.get("message") for choice in listed if isinstance(choice, dict)]

    @property
    def message(self) -> Mapping[str, Any]:
        """The message of the first choice; empty if a content filter removed it."""
        message = self.body["choices"][0].get("message")
        return message if isinstance(message, dict) else {}

    @property
    def finish_reason(self) -> str | None:
        """The reason why the first choice ended."""
        choice = self.body["choices"][0]
        return _reason(choice) if isinstance(choice, dict) else None

    @property
    def usage(self) -> TokenUsage | None:
        """The token counts that the client gets; None if the provider did not count."""
        reported = read_usage(self.body)
        return None if reported is None else reported[1]

    @property
    def reported(self) -> Reported | None:
        """The provider's usage object and the counts in it; None if the provider did not count."""
        return _reported(self.counted) if self.counted is not None else read_usage(self.body)

    @property
    def characters(self) -> int:
        """The length of all generated content, in characters of Latin script, for providers that do not count."""
        choices = self.body.get("choices")
        return sum(_characters(choice) for choice in choices) if isinstance(choices, list) else 0


@request_dataclass(frozen=True, slots=True)
class ChatChunk:
    """One event of a streamed response."""

    raw: bytes
    """The event's data unchanged if the provider's wire format is OpenAI's, else `body` as JSON."""
    body: Mapping[str, Any]
    counted: Mapping[str, Any] | None = None
    """The provider's own usage object so far, if its wire format is not OpenAI's."""
    format: ClassVar[ApiFormat] = ApiFormat.CHAT
    """The format of `raw` and `body`."""

    @property
    def head(self) -> Mapping[str, Any]:
        """The object with the response's id and model: on the first chunk of every format."""
        return self.body

    @property
    def text(self) -> str:
        """The text that this chunk adds to the first choice."""
        content = self.delta.get("content")
        if isinstance(content, str):
            return content
        return "".join(text for part in parts_of(content) if (text := text_of_part(part)))

    @property
    def id(self) -> str | None:
        """The provider's id of this response."""
        return _text(self.body.get("id"))

    @property
    def delta(self) -> Mapping[str, Any]:
        """The delta of the first choice; empty for a chunk without choices."""
        choice = self._choice()
        return delta_of(choice) if choice else {}

    @property
    def finish_reason(self) -> str | None:
        """The reason why the first choice ended; set on its last chunk."""
        choice = self._choice()
        return _reason(choice) if choice else None

    @property
    def usage(self) -> TokenUsage | None:
        """The token counts of the whole response that the client gets; set on the last chunk."""
        return parse_usage(self.body.get("usage"))

    @property
    def reported(self) -> Reported | None:
        """The provider's usage object and the counts in it, for the response so far; None if this chunk has none."""
        if self.counted is not None:
            return _reported(self.counted)
        if not self.body.get("usage") and not self.last:
            return None  # places other than OpenAI's are used on the last chunk only
        return read_usage(self.body)

    @property
    def last(self) -> bool:
        """Whether the response has ended, with this chunk or before it."""
        choices = self.body.get("choices")
        if not isinstance(choices, list):
            return False
        for choice in choices:
            if isinstance(choice, dict) and reason_of(choice):
                return True
        return not choices

    @property
    def carries_content(self) -> bool:
        """Whether the chunk has content of any kind, the reason why a choice ended, or the usage. A role, empty texts
        and the results of a filter on the prompt are no content."""
        choices = self.body.get("choices")
        if not isinstance(choices, list) or not choices:
            return bool(self.body.get("usage"))
        return any(_has_content(choice) for choice in choices if isinstance(choice, dict))

    @property
    def characters(self) -> int:
        """The length of the content in this chunk, in characters of Latin script."""
        choices = self.body.get("choices")
        return sum(_characters(choice) for choice in choices) if isinstance(choices, list) else 0

    def _choice(self) -> Mapping[str, Any] | None:
        choices = self.body.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            choice: Mapping[str, Any] = choices[0]
            return choice
        return None


def _reported(counted: Mapping[str, Any]) -> Reported | None:
    counts = parse_usage(counted)
    return None if counts is None else (counted, counts)


def _has_content(choice: Mapping[str, Any]) -> bool:
    if reason_of(choice):
        return True
    return any(_is_content(value) for name, value in delta_of(choice).items() if name not in _DESCRIBES)


def _is_content(value: object) -> bool:
    """Return whether a member of a delta has content. Parts, and calls without a name, may be empty."""
    if isinstance(value, list):
        return any(_is_content(each) for each in value)
    if isinstance(value, dict):
        return any(_is_content(each) for name, each in value.items() if name not in _NO_CONTENT)
    return bool(value)


def _characters(choice: object) -> int:
    """Count a choice's text, reasoning and tool calls. Unexpected shapes count as 0."""
    message = delta_of(choice) if isinstance(choice, dict) else {}
    count = 0
    for name in _GENERATED:
        if value := message.get(name):
            count += latin_length(value) if isinstance(value, str) else nested_characters(value)
    if not count:  # other content: audio, a function call of the old API, reasoning in parts
        count = sum(nested_characters(value) for name, value in message.items() if name not in _NOT_GENERATED)
    return count


_GENERATED = ("content", "refusal", "reasoning_content", "reasoning", "tool_calls")
_NOT_GENERATED = frozenset(
    {"role", "id", "type", "index", "format", "signature", "data", "encrypted_content", "b64_json", "url", "citations",
     "annotations", "thinking_blocks", "reasoning_items"}
)  # fmt: skip
_NO_CONTENT = frozenset({"type", "index", "format"})
"""Members of parts and of calls that describe content, and have none."""
_DESCRIBES = _NO_CONTENT | {"role", "name", "channel"}
"""The same of a delta."""
_MAX_DEPTH = 8


def nested_characters(value: object, depth: int = 0) -> int:
    """Count all text in lists and objects, such as content in parts or a call's name and arguments."""
    if isinstance(value, str):
        return latin_length(value)
    if depth == _MAX_DEPTH:
        return 0
    if isinstance(value, dict):
        return sum(nested_characters(inner, depth + 1) for name, inner in value.items() if name not in _NOT_GENERATED)
    return sum(nested_characters(inner, depth + 1) for inner in value) if isinstance(value, list) else 0


def _reason(choice: Mapping[str, Any]) -> str | None:
    """Return the reason as the server writes it; of an object its type, and None for a text that says null."""
    given, reason = choice.get("finish_reason"), reason_of(choice)
    if reason is None or not isinstance(given, str | dict):
        return None
    return given if isinstance(given, str) else reason


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
