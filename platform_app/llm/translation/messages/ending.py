"""The end of a Messages response: its stop reason and its usage."""

from collections.abc import Mapping
from typing import Any

from platform_app.errors import ProviderError
from platform_app.llm.errors import make_error
from platform_app.llm.finish_reasons import CONTENT_FILTER, LENGTH, is_broken_off, kind_of_end, reason_of
from platform_app.llm.translation.messages.segments import Segments
from platform_app.llm.usage.counts import TokenUsage

Fields = dict[str, Any]
_REASONS: Mapping[str, str] = {LENGTH: "max_tokens", CONTENT_FILTER: "refusal"}


def ending_of(choice: Mapping[str, Any], segments: Segments) -> Fields:
    """Return `stop_reason` and `stop_sequence` of a choice with its finish reason. Some servers say `stop` after tool
    calls, but a client runs the tools of a turn that ended for them.

    Raises:
        ProviderError: the provider broke the response off.
    """
    given = reason_of(choice)
    if is_broken_off(given):
        raise make_error(ProviderError, f"the provider ended the response early (finish_reason: {given})")
    reason = _REASONS.get(kind_of_end(given) or "")
    stopped = choice.get("stop_reason")  # vLLM names the stop sequence here
    if segments.refused:
        reason = "refusal"
    elif reason is None and segments.has_calls:
        reason = "tool_use"
    elif reason is None:
        named = isinstance(stopped, str) and given == "stop" and stopped != "stop"
        return {
            "stop_reason": "stop_sequence" if named else "end_turn", "stop_sequence": stopped if named else None,
        }  # fmt: skip
    return {"stop_reason": reason, "stop_sequence": None}


def was_cut(choice: Mapping[str, Any]) -> bool:
    """Return whether the response ended in the middle of its content: at a limit, at a filter, or broken off."""
    given = reason_of(choice)
    return kind_of_end(given) is not None or is_broken_off(given)


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
