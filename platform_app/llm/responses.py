"""What comes back from a provider, in OpenAI's shape, which every wire format is translated to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from platform_app.llm.usage.counts import Reported, TokenUsage, parse_usage, read_usage
from platform_app.llm.usage.token_estimate import latin_length


@dataclass(frozen=True, slots=True)
class ModelResponse:
    """A whole answer. A chat's `body` has at least one choice with a message; embeddings have none."""

    raw: bytes
    """The provider's bytes as they came, where its wire format is OpenAI's; else `body` as JSON."""
    body: Mapping[str, Any]
    counted: Mapping[str, Any] | None = None
    """The provider's own usage object, where its wire format is not OpenAI's."""

    @property
    def id(self) -> str | None:
        """The provider's id of this answer."""
        return _text(self.body.get("id"))

    @property
    def message(self) -> Mapping[str, Any]:
        """The first choice's message; empty where a filter left none of it, and only of it."""
        message = self.body["choices"][0].get("message")
        return message if isinstance(message, dict) else {}

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended."""
        return _text(self.body["choices"][0].get("finish_reason"))

    @property
    def usage(self) -> TokenUsage | None:
        """Tokens as the client is told them; None where the provider did not count."""
        reported = read_usage(self.body)
        return None if reported is None else reported[1]

    @property
    def reported(self) -> Reported | None:
        """The provider's usage object and what it says; None where it did not count."""
        return _reported(self.counted) if self.counted is not None else read_usage(self.body)

    @property
    def characters(self) -> int:
        """Of everything that the model made, in Latin script, for when the provider did not count."""
        choices = self.body.get("choices")
        return sum(_characters(choice, "message") for choice in choices) if isinstance(choices, list) else 0


@dataclass(frozen=True, slots=True)
class ChatChunk:
    """One event of a streamed answer."""

    raw: bytes
    """The event's data as it came, where the provider's wire format is OpenAI's; else `body` as JSON."""
    body: Mapping[str, Any]
    counted: Mapping[str, Any] | None = None
    """The provider's own usage object so far, where its wire format is not OpenAI's."""

    @property
    def id(self) -> str | None:
        """The provider's id of this answer."""
        return _text(self.body.get("id"))

    @property
    def delta(self) -> Mapping[str, Any]:
        """What the first choice gained; empty for a chunk without choices."""
        choice = self._choice()
        delta = choice.get("delta") if choice else None
        return delta if isinstance(delta, dict) else {}

    @property
    def finish_reason(self) -> str | None:
        """Set on the last chunk of the first choice."""
        choice = self._choice()
        return _text(choice.get("finish_reason")) if choice else None

    @property
    def usage(self) -> TokenUsage | None:
        """Tokens of the whole answer as the client is told them; on the last chunk."""
        return parse_usage(self.body.get("usage"))

    @property
    def reported(self) -> Reported | None:
        """The provider's usage object and what it says of the answer so far; None where this chunk has none."""
        if self.counted is not None:
            return _reported(self.counted)
        if not self.body.get("usage") and not self.last:
            return None  # other places than OpenAI's are used on the last chunk alone
        return read_usage(self.body)

    @property
    def last(self) -> bool:
        """Whether the answer has ended with this chunk, or had before."""
        choices = self.body.get("choices")
        if not isinstance(choices, list):
            return False
        for choice in choices:
            if isinstance(choice, dict) and choice.get("finish_reason"):
                return True
        return not choices

    @property
    def carries_content(self) -> bool:
        """Whether something was said: content of any kind, why a choice ended, or the usage of it all. A role, empty
        texts and what a filter found in the prompt are not."""
        choices = self.body.get("choices")
        if not isinstance(choices, list) or not choices:
            return bool(self.body.get("usage"))
        return any(_says_something(choice) for choice in choices if isinstance(choice, dict))

    @property
    def characters(self) -> int:
        """Of everything that the answer gained, in Latin script."""
        choices = self.body.get("choices")
        return sum(_characters(choice, "delta") for choice in choices) if isinstance(choices, list) else 0

    def _choice(self) -> Mapping[str, Any] | None:
        choices = self.body.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            choice: Mapping[str, Any] = choices[0]
            return choice
        return None


def _reported(counted: Mapping[str, Any]) -> Reported | None:
    counts = parse_usage(counted)
    return None if counts is None else (counted, counts)


def _says_something(choice: Mapping[str, Any]) -> bool:
    if choice.get("finish_reason"):
        return True
    delta = choice.get("delta") or choice.get("message")
    return isinstance(delta, dict) and any(value for name, value in delta.items() if name != "role")


def _characters(choice: object, member: str) -> int:
    """Of a choice's text, reasoning and tool calls. Odd shapes count as nothing."""
    made = choice.get(member) if isinstance(choice, dict) else None
    if not isinstance(made, dict):
        return 0
    count = 0
    for name in _MADE:
        if value := made.get(name):
            count += latin_length(value) if isinstance(value, str) else _nested(value)
    if not count:  # what is said in other ways: audio, a call of before tools, reasoning in parts
        count = sum(_nested(value) for name, value in made.items() if name not in _NOT_MADE)
    return count


_MADE = ("content", "refusal", "reasoning_content", "reasoning", "tool_calls")
_NOT_MADE = frozenset(
    {"role", "id", "type", "index", "format", "signature", "data", "encrypted_content", "b64_json", "url", "citations",
     "annotations"}
)  # fmt: skip
_MAX_DEPTH = 8


def _nested(value: object, depth: int = 0) -> int:
    """Of all text in lists and objects, such as content in parts or a call's name and arguments."""
    if isinstance(value, str):
        return latin_length(value)
    if depth == _MAX_DEPTH:
        return 0
    if isinstance(value, dict):
        return sum(_nested(inner, depth + 1) for name, inner in value.items() if name not in _NOT_MADE)
    return sum(_nested(inner, depth + 1) for inner in value) if isinstance(value, list) else 0


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
