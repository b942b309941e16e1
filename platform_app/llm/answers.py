"""What comes back from a provider, in OpenAI's shape, which every wire format is translated to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from platform_app.llm.usage import TokenUsage, parse_usage


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer. A chat's `body` has at least one choice with a message; embeddings have none."""

    raw: bytes
    """The provider's bytes as they came, where its wire format is OpenAI's; else `body` as JSON."""
    body: Mapping[str, Any]

    @property
    def id(self) -> str | None:
        """The provider's id of this answer."""
        return _text(self.body.get("id"))

    @property
    def message(self) -> Mapping[str, Any]:
        """The first choice's message."""
        message: Mapping[str, Any] = self.body["choices"][0]["message"]
        return message

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended."""
        return _text(self.body["choices"][0].get("finish_reason"))

    @property
    def usage(self) -> TokenUsage | None:
        """Tokens, None where the provider did not count."""
        return parse_usage(self.body.get("usage"))

    @property
    def characters(self) -> int:
        """Of everything that the model made, for when the provider did not count."""
        choices = self.body.get("choices")
        return sum(_characters(choice, "message") for choice in choices) if isinstance(choices, list) else 0


@dataclass(frozen=True, slots=True)
class ChatChunk:
    """One event of a streamed answer."""

    raw: bytes
    """The event's data as it came, where the provider's wire format is OpenAI's; else `body` as JSON."""
    body: Mapping[str, Any]

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
        """Tokens of the whole answer; on the last chunk."""
        return parse_usage(self.body.get("usage"))

    @property
    def characters(self) -> int:
        """Of everything that the answer gained."""
        choices = self.body.get("choices")
        return sum(_characters(choice, "delta") for choice in choices) if isinstance(choices, list) else 0

    def _choice(self) -> Mapping[str, Any] | None:
        choices = self.body.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            choice: Mapping[str, Any] = choices[0]
            return choice
        return None


def _characters(choice: object, member: str) -> int:
    """Of a choice's text, reasoning and tool arguments. Odd shapes count as nothing."""
    made = choice.get(member) if isinstance(choice, dict) else None
    if not isinstance(made, dict):
        return 0
    count = sum(len(value) for name in _MADE if isinstance(value := made.get(name), str))
    calls = made.get("tool_calls")
    if isinstance(calls, list):
        functions = (call.get("function") for call in calls if isinstance(call, dict))
        count += sum(len(str(function.get("arguments") or "")) for function in functions if isinstance(function, dict))
    return count


_MADE = ("content", "refusal", "reasoning_content", "reasoning")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
