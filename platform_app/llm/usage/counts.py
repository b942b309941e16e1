"""Read the token counts of a call as the provider reports them, whatever its field names are.

This module reads; `settlement.py` decides which counts are used. A count that is missing or not possible (negative, a
fraction, text, a boolean, more than a billion) is 0 here. No response with content has 0 tokens, so the value is free.
Prompt tokens include cached tokens everywhere.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

MAX_COUNT = 1_000_000_000
"""More tokens than any call has. A larger number is not a count."""


class TokenUsage(NamedTuple):  # creating a frozen dataclass takes five times as long, and each request needs two
    """The token counts of one call; 0: not counted."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    """The prompt tokens that were read from the provider's cache."""
    cache_write_tokens: int = 0
    """The prompt tokens that were written to the cache, if the provider reports them: they cost more."""
    cache_write_1h_tokens: int = 0
    """The written tokens that the cache keeps for an hour."""
    reasoning_tokens: int = 0
    """The completion tokens of the model's thinking. Some providers count them separately."""

    def merged(self, later: "TokenUsage") -> "TokenUsage":
        """Return the larger of each count. Counts in a stream are running totals, so they never decrease."""
        return TokenUsage(
            max(self.prompt_tokens, later.prompt_tokens),
            max(self.completion_tokens, later.completion_tokens),
            max(self.total_tokens, later.total_tokens),
            max(self.cached_tokens, later.cached_tokens),
            max(self.cache_write_tokens, later.cache_write_tokens),
            max(self.cache_write_1h_tokens, later.cache_write_1h_tokens),
            max(self.reasoning_tokens, later.reasoning_tokens),
        )


_NOTHING = TokenUsage()
Reported = tuple[Mapping[str, Any], TokenUsage]
"""A usage object as the provider sent it, and the counts in it."""


def whole_count(value: object) -> int:
    """Return a count of tokens, also one written as 500.0; 0 for any other value."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 < value <= MAX_COUNT else 0


def parse_usage(usage: object) -> TokenUsage | None:
    """Read a usage object of any format; None where it is missing.

    OpenAI's names have precedence. OpenAI has no name for tokens written to a cache: `cache_creation_tokens` is
    LiteLLM's, and ours for Anthropic; `cache_write_tokens` is OpenRouter's.
    """
    if not isinstance(usage, dict):
        return None
    prompt, completion = whole_count(usage.get("prompt_tokens")), whole_count(usage.get("completion_tokens"))
    if not prompt:
        prompt = _first(usage, _PROMPT)
    if not completion:
        completion = _first(usage, _COMPLETION)
    read = written = hour = reasoning = 0
    details = usage.get("prompt_tokens_details")
    if isinstance(details, dict):
        if cached := details.get("cached_tokens"):
            read = whole_count(cached)
        written = _first(details, _DETAILED_WRITES)
        hour = _hour(details.get("cache_creation_token_details")) if written else 0
    details = usage.get("completion_tokens_details")
    if isinstance(details, dict) and (thought := details.get("reasoning_tokens")):
        reasoning = whole_count(thought)
    total = whole_count(usage.get("total_tokens"))
    openai = 3 + ("prompt_tokens_details" in usage) + ("completion_tokens_details" in usage)
    if len(usage) != openai or not (prompt and completion and total):
        return _with_other_names(usage, TokenUsage(prompt, completion, total, read, written, hour, reasoning))
    return TokenUsage(prompt, completion, total, read, written, hour, reasoning)


def read_usage(body: Mapping[str, Any]) -> Reported | None:
    """Return the usage of a response or a chunk in OpenAI's shape, wherever its server puts it; None if it has none."""
    usage: Any = body.get("usage")
    counts = parse_usage(usage) if usage else None
    if counts is None or not (counts.prompt_tokens or counts.completion_tokens or counts.total_tokens):
        found = _elsewhere(body)
        if found is not None:
            return found
    return None if counts is None else (usage, counts)


def merged_counts(before: Mapping[str, Any], later: object, depth: int = 0) -> dict[str, Any]:
    """Merge a usage object with a later one of the same stream. Counts are running totals, so the larger one is used. A
    count that the later object omits, or that is 0 or null there, stays."""
    merged = dict(before)
    for name, value in later.items() if isinstance(later, Mapping) else ():
        known = merged.get(name)
        if whole_count(known):
            merged[name] = max(whole_count(value), whole_count(known))
        elif isinstance(value, dict) and depth < _MAX_DEPTH:
            merged[name] = merged_counts(known if isinstance(known, dict) else {}, value, depth + 1)
        elif value is not None and not isinstance(known, dict):
            merged[name] = value
    return merged


def stated_microusd(usage: Mapping[str, Any], tokens: int) -> int | None:
    """Return the cost that the provider itself reports (OpenRouter, Perplexity), in millionths of a dollar, rounded up.
    Return None if it reports none, or one that is not possible: more than `MAX_TOKEN_MICROUSD` for each token."""
    cost = usage.get("cost")
    if isinstance(cost, dict):
        cost = cost.get("total_cost")
    if isinstance(cost, bool) or not isinstance(cost, int | float):
        return None
    microusd = cost * 1_000_000
    return math.ceil(microusd - 1e-6) if 0 < microusd <= tokens * MAX_TOKEN_MICROUSD else None


def kept_usage(usage: Mapping[str, Any]) -> str | None:
    """Return a usage object as the ledger stores it: JSON of at most `MAX_KEPT` characters, whose texts are all
    numbers. Return None if it is too large for that."""
    try:
        plain = orjson.dumps(usage)
    except (TypeError, RecursionError):  # a number of more than 64 bits, read exactly
        plain = b""
    # Almost every usage object has only numbers in objects. A text would follow a colon, a comma or a bracket.
    if not plain or len(plain) > MAX_KEPT or b':"' in plain or b"[" in plain or b"\\" in plain:
        plain = orjson.dumps(number_leaves(usage))
    return plain.decode() if len(plain) <= MAX_KEPT else None


def number_leaves(usage: Mapping[str, Any] | None, depth: int = 0) -> dict[str, Any]:
    """Return the numbers of a usage object unchanged, without any text that is not a number. Providers may put any text
    there, and the ledger must store no prompts and no responses."""
    kept: dict[str, Any] = {}
    for name, value in (usage or {}).items():
        if len(kept) == _MAX_LEAVES:
            break
        if len(name) > _MAX_NAME or not name.isprintable():
            continue
        if isinstance(value, dict):
            if depth < _MAX_DEPTH and (inner := number_leaves(value, depth + 1)):
                kept[name] = inner
        elif value is None or isinstance(value, bool | float):
            kept[name] = value
        elif isinstance(value, int):
            kept[name] = value if -_LARGEST_INTEGER <= value <= _LARGEST_INTEGER else str(value)[:_MAX_DIGITS]
        elif isinstance(value, str) and len(value) <= _MAX_DIGITS and _NUMBER.fullmatch(value):
            kept[name] = value
    return kept


MAX_KEPT = 1024
MAX_TOKEN_MICROUSD = 10_000
"""A cent: ten thousand dollars for a million tokens."""
_MAX_LEAVES, _MAX_DEPTH, _MAX_NAME, _MAX_DIGITS = 32, 3, 64, 32
_LARGEST_INTEGER = 2**63 - 1
_NUMBER = re.compile(r"[-+0-9.eE]+", re.ASCII)

_PROMPT = (
    "input_tokens", "promptTokens", "inputTokens", "promptTokenCount", "inputTokenCount", "prompt_token_count",
    "prompt_eval_count", "prompt_n",
)  # fmt: skip
_COMPLETION = (
    "output_tokens", "completionTokens", "outputTokens", "candidatesTokenCount", "outputTokenCount",
    "candidates_token_count", "eval_count", "predicted_n",
)  # fmt: skip
_TOTAL = ("totalTokens", "totalTokenCount", "total_token_count")
_READ = ("cached_tokens", "prompt_cache_hit_tokens", "cachedContentTokenCount", "cached_content_token_count")
_READ_APART = ("cache_read_input_tokens", "cacheReadInputTokens", "cache_n")
_WRITES = ("cache_creation_input_tokens", "cacheWriteInputTokens")
"""Names of servers that count cached tokens separately from other input, like Anthropic."""
_DETAILED_WRITES = ("cache_creation_tokens", "cache_write_tokens")
_THOUGHTS = ("reasoning_tokens", "thoughtsTokenCount", "thoughts_token_count")


def _with_other_names(usage: Mapping[str, Any], counts: TokenUsage) -> TokenUsage:
    """Return the counts, completed from the names of other formats than OpenAI's."""
    prompt, completion, read = counts.prompt_tokens, counts.completion_tokens, counts.cached_tokens
    written, hour, reasoning = counts.cache_write_tokens, counts.cache_write_1h_tokens, counts.reasoning_tokens
    inputs, outputs = usage.get("input_tokens_details"), usage.get("output_tokens_details")
    if isinstance(inputs, dict):
        read = read or whole_count(inputs.get("cached_tokens"))
        written = written or _first(inputs, _DETAILED_WRITES)
    if isinstance(outputs, dict):
        reasoning = reasoning or _first(outputs, ("reasoning_tokens", "thinking_tokens"))
    read = read or _first(usage, _READ)
    apart = _first(usage, _READ_APART)
    writes = _first(usage, _WRITES)
    if (apart or writes) and not whole_count(usage.get("prompt_tokens")):
        prompt += apart + writes
    read, written = read or apart, written or writes
    if written and not hour:
        hour = _hour(usage.get("cache_creation"))
    if not prompt and whole_count(usage.get("prompt_cache_miss_tokens")):
        prompt = read + whole_count(usage.get("prompt_cache_miss_tokens"))
    thoughts = _first(usage, _THOUGHTS)
    if thoughts and "candidatesTokenCount" in usage:  # Gemini's own format counts thoughts separately from the response
        completion += thoughts
    total = counts.total_tokens or _first(usage, _TOTAL)
    return TokenUsage(prompt, completion, total, read, written, hour, reasoning or thoughts)


def _elsewhere(body: Mapping[str, Any]) -> Reported | None:
    """Read the usage of servers that do not use OpenAI's place: Groq, Moonshot, Gemini, llama.cpp, Ollama, Cohere."""
    if "x_groq" in body and (found := _usable(body["x_groq"], "usage")):
        return found
    choices = body.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if found := _usable(choice, "usage"):
            return found
    for name in ("usageMetadata", "usage_metadata", "timings"):
        if name in body and (found := _usable(body, name)):
            return found
    if "meta" in body and (found := _usable(body["meta"], "tokens")):
        return found
    if "eval_count" in body:
        return _usable({"usage": {name: body.get(name) for name in ("prompt_eval_count", "eval_count")}}, "usage")
    return None


def _usable(holder: object, name: str) -> Reported | None:
    usage: Any = holder.get(name) if isinstance(holder, dict) else None
    counts = parse_usage(usage)
    return None if counts is None or counts == _NOTHING else (usage, counts)


def _first(usage: Mapping[str, Any], names: Iterable[str]) -> int:
    """Return the first count of these names that is not 0."""
    for name in names:
        if name in usage and (count := whole_count(usage[name])):
            return count
    return 0


def _hour(details: object) -> int:
    return whole_count(details.get("ephemeral_1h_input_tokens")) if isinstance(details, dict) else 0
