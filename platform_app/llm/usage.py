"""Tokens of one call, as the provider counted them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens as the provider counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt's tokens, those that were read from the provider's cache."""
    cache_write_tokens: int = 0
    """Of the prompt's tokens, those that were written to it, where a provider tells: there they cost more."""
    cache_write_1h_tokens: int = 0
    """Of the written ones, those that stay there for an hour."""


def parse_usage(usage: object) -> TokenUsage | None:
    """OpenAI's usage object; None where it is missing. Odd members count as 0.

    OpenAI has no word for tokens that were written to a cache: `cache_creation_tokens` is LiteLLM's, and ours for
    Anthropic; `cache_write_tokens` is OpenRouter's.
    """
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    read = written = hour = 0
    if isinstance(details, dict):
        read = _count(details.get("cached_tokens"))
        written = _count(details.get("cache_creation_tokens")) or _count(details.get("cache_write_tokens"))
        hour = _hour(details.get("cache_creation_token_details")) if written else 0
    return TokenUsage(
        _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), _count(usage.get("total_tokens")),
        read, written, hour,
    )  # fmt: skip


def _hour(details: object) -> int:
    return _count(details.get("ephemeral_1h_input_tokens")) if isinstance(details, dict) else 0


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
