"""Recognise a response without content that was filtered: the provider works, but refused the content.

Servers show it in different places: a choice without a message, no choice at all, Azure's filter results for the
prompt, Gemini's feedback on it, OpenRouter's field for the finish reason of its provider.
"""

from collections.abc import Mapping
from typing import Any

from platform_app.llm.finish_reasons import is_filter

_REASON_NAMES = ("finish_reason", "native_finish_reason", "stop_reason")
_RESULT_NAMES = ("prompt_filter_results", "prompt_annotations", "content_filter_results")
_FEEDBACK_NAMES = ("promptFeedback", "prompt_feedback")
_MAX_DEPTH = 5


def is_filtered(body: Mapping[str, Any]) -> bool:
    """Return whether a chat completion, or a chunk of one, shows that its content was filtered."""
    choices = body.get("choices")
    holders = [body, *choices] if isinstance(choices, list) else [body]
    return any(_shows_filter(holder) for holder in holders if isinstance(holder, dict))


def _shows_filter(holder: Mapping[str, Any]) -> bool:
    if any(is_filter(holder.get(name)) for name in _REASON_NAMES):
        return True
    if any(_has_filtered(holder.get(name), 0) for name in _RESULT_NAMES):
        return True
    feedbacks = (holder.get(name) for name in _FEEDBACK_NAMES)
    return any(isinstance(each, dict) and (each.get("blockReason") or each.get("block_reason")) for each in feedbacks)


def _has_filtered(value: object, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        return False
    if isinstance(value, dict):
        return value.get("filtered") is True or any(_has_filtered(each, depth + 1) for each in value.values())
    return isinstance(value, list) and any(_has_filtered(each, depth + 1) for each in value)
