"""Read why a choice of a chat completion ended: the one table of the reasons that chat servers send.

The words are OpenAI's, and those of the servers and models behind them: Mistral, Gemini, Bedrock, Zhipu, DeepSeek,
vLLM, SGLang. Letter case does not matter, and a filter may add its own reason (`content_filter: PROHIBITED_CONTENT`).
A word that is not in the table is a complete response.
"""

from collections.abc import Mapping
from typing import Any

LENGTH = "length"
CONTENT_FILTER = "content_filter"
_LENGTHS = frozenset(
    {"length", "max_tokens", "max_output_tokens", "max_length", "model_length", "model_context_window_exceeded"}
)
_FILTERS = (
    "content_filter", "content-filter", "contentfilter", "safety", "prohibited_content", "blocklist", "blocked", "spii",
    "moderation", "sensitive", "recitation", "guardrail", "refusal", "image_safety", "image_prohibited_content",
)  # fmt: skip
"""The starts of the reasons of filters."""
_BROKEN_OFF = frozenset({"abort", "aborted", "cancelled", "canceled", "error", "insufficient_system_resource"})
_NO_REASON = ("null", "none")
"""What some servers write instead of null."""


def reason_of(choice: Mapping[str, Any]) -> str | None:
    """Return why a choice ended, in lower case; None if it has not ended. SGLang's own form is an object with the
    reason as its type."""
    reason = choice.get("finish_reason")
    if isinstance(reason, dict):
        reason = reason.get("type")
    if not reason:
        return None
    reason = str(reason).strip().lower()
    return None if reason in _NO_REASON else reason


def kind_of_end(reason: str | None) -> str | None:
    """Return LENGTH or CONTENT_FILTER for a response that ended early; None if it is complete, or was broken off."""
    if reason is None:
        return None
    if reason in _LENGTHS:
        return LENGTH
    return CONTENT_FILTER if is_filter(reason) else None


def is_filter(reason: object) -> bool:
    """Return whether the reason is a content filter."""
    return isinstance(reason, str) and reason.lower().startswith(_FILTERS)


def is_broken_off(reason: str | None) -> bool:
    """Return whether the provider ended the response because it failed, or was overloaded."""
    return reason in _BROKEN_OFF
