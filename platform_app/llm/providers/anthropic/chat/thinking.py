"""Translate `reasoning_effort` and `max_tokens` to Anthropic's effort, thinking budget and limit."""

from collections.abc import Mapping
from typing import Any

from platform_app.llm.errors import unsupported
from platform_app.llm.providers.anthropic.capabilities import EFFORTS, ModelCapabilities

DEFAULT_MAX_TOKENS = 8192
"""The limit for requests without one: Anthropic requires it, OpenAI does not."""
MIN_BUDGET = 1024
LEVELS: Mapping[str, str] = {
    "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max",
}  # fmt: skip
"""OpenAI's levels, and Anthropic's own names."""
BUDGETS: Mapping[str, int] = {"medium": 4096, "high": 16_384, "xhigh": 24_576, "max": 32_000}
"""The thinking budget on models without an effort parameter. `low` is their default, without thinking."""
Fields = dict[str, Any]


def set_effort(request: Fields, given: object, limit: object, takes: ModelCapabilities) -> None:
    """Add the requested effort; `limit` is the client's token limit.

    Raises:
        ProviderRejectedRequest: the effort is not valid, or the model cannot think.
    """
    if given is None:
        return
    if given == "none":
        if takes.efforts or takes.thinking_budget:
            request.setdefault("thinking", {"type": "disabled"})
        return
    level = LEVELS.get(given) if isinstance(given, str) else None
    if level is None:
        raise unsupported("reasoning_effort", f"must be none, {', '.join(LEVELS)}")
    if takes.efforts:
        request.setdefault("output_config", {})["effort"] = _nearest(level, takes)
    elif level == "low" or "thinking" in request:
        return
    elif not takes.thinking_budget:
        raise unsupported("reasoning_effort", "must be none, minimal or low on this model, which does not think")
    elif _may_think(request):
        _think(request, BUDGETS[level], limit, takes)


def set_max_tokens(request: Fields, given: object, takes: ModelCapabilities) -> None:
    """Add the limit that Anthropic requires: the client's, or a default plus the thinking budget.

    Raises:
        ProviderRejectedRequest: the thinking budget leaves no room for a response.
    """
    budget = _budget(request)
    if given is None:
        limit = DEFAULT_MAX_TOKENS + budget
        limit = limit if takes.max_output_tokens is None else min(limit, takes.max_output_tokens)
        if budget and limit <= budget:
            raise unsupported("thinking.budget_tokens", f"must be below {takes.max_output_tokens} on this model")
        request["max_tokens"] = limit
        return
    if budget and isinstance(given, int) and given <= budget:
        raise unsupported("max_tokens", f"must be above thinking.budget_tokens, which is {budget}")
    request["max_tokens"] = given


def _nearest(level: str, takes: ModelCapabilities) -> str:
    """Return the level, else the next lower one that the model has, else the model's lowest."""
    wanted = EFFORTS.index(level)
    return next((each for each in reversed(EFFORTS[: wanted + 1]) if each in takes.efforts), takes.efforts[0])


def _may_think(request: Fields) -> bool:
    """Return whether Anthropic allows thinking with the rest of the request: not with a temperature, a forced tool or a
    prefill, and not after tool calls whose thinking the client did not send back."""
    if request.keys() & {"temperature", "top_k", "top_p"} or request.get("tool_choice", {}).get("type") in (
        "any",
        "tool",
    ):
        return False
    turns = request["messages"]
    if turns[-1]["role"] == "assistant":
        return False
    has_results = any(block["type"] == "tool_result" for block in turns[-1]["content"])
    return not has_results or turns[-2]["content"][0]["type"] in ("thinking", "redacted_thinking")


def _think(request: Fields, budget: int, limit: object, takes: ModelCapabilities) -> None:
    """Add thinking within the client's limit, which includes thinking. If the limit is too low, add none."""
    most = limit if isinstance(limit, int) else takes.max_output_tokens
    if most is not None:
        budget = min(budget, most // 2)
    if budget >= MIN_BUDGET:
        request["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _budget(request: Fields) -> int:
    match request.get("thinking"):
        case {"type": "enabled", "budget_tokens": int(budget)} if budget > 0:
            return budget
        case _:
            return 0
