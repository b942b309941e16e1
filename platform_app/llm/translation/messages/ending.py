"""The end of a Messages response: its stop reason and its usage."""

from collections.abc import Mapping
from typing import Any

from platform_app.llm.translation.messages.segments import Segments
from platform_app.llm.usage.counts import TokenUsage

Fields = dict[str, Any]
_REASONS: Mapping[str, str] = {"length": "max_tokens", "content_filter": "refusal"}


def ending_of(choice: Mapping[str, Any], segments: Segments) -> Fields:
    """Return `stop_reason` and `stop_sequence` of a choice with its finish reason. Some servers say `stop` after tool
    calls, but a client runs the tools of a turn that ended for them."""
    reason = _REASONS.get(str(choice.get("finish_reason")))
    stopped = choice.get("stop_reason")  # vLLM names the stop sequence here
    if segments.refused:
        reason = "refusal"
    elif reason is None and segments.has_calls:
        reason = "tool_use"
    elif reason is None:
        named = isinstance(stopped, str) and choice.get("finish_reason") == "stop" and stopped != "stop"
        return {
            "stop_reason": "stop_sequence" if named else "end_turn", "stop_sequence": stopped if named else None,
        }  # fmt: skip
    return {"stop_reason": reason, "stop_sequence": None}


def was_cut(choice: Mapping[str, Any]) -> bool:
    """Return whether the response ended at a limit or a filter, in the middle of its content."""
    return choice.get("finish_reason") in _REASONS


def usage_of(counts: TokenUsage | None) -> Fields:
    """Return Anthropic's usage, whose input tokens do not include those of the cache."""
    counts = counts or TokenUsage()
    read, written = counts.cached_tokens, counts.cache_write_tokens
    usage: Fields = {
        "input_tokens": max(0, counts.prompt_tokens - read - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": counts.completion_tokens,
    }
    if counts.reasoning_tokens:
        usage["output_tokens_details"] = {"thinking_tokens": counts.reasoning_tokens}
    return usage
