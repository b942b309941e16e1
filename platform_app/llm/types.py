"""What goes to a provider and what comes back, in OpenAI's chat-completions shape, which every wire format is
translated from and to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat completion that a caller asks for, already validated at the edge."""

    model: str | None
    """The public model name; None for the platform's default."""
    body: Mapping[str, Any]
    """OpenAI's request fields but model, stream and stream_options."""


@dataclass(frozen=True, slots=True)
class UpstreamCall:
    """One call to one provider."""

    model: str
    """The model's name at the provider."""
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens as the provider counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ChatCompletion:
    """A whole answer. `body` has at least one choice with a message."""

    raw: bytes
    """The provider's bytes as they came."""
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


@dataclass(frozen=True, slots=True)
class ChatChunk:
    """One event of a streamed answer."""

    raw: bytes
    """The event's data as it came."""
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

    def _choice(self) -> Mapping[str, Any] | None:
        choices = self.body.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            choice: Mapping[str, Any] = choices[0]
            return choice
        return None


def parse_usage(usage: object) -> TokenUsage | None:
    """OpenAI's usage object; None where it is missing. Odd members count as 0."""
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    return TokenUsage(
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        total_tokens=_count(usage.get("total_tokens")),
        cached_tokens=_count(details.get("cached_tokens")) if isinstance(details, dict) else 0,
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
