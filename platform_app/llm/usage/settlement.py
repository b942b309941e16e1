"""Decide which counts of a provider are used. The ledger, the limiter and the metrics all take the settled counts.

A plausible count is used, any other is estimated:

- The prompt has at least one token, and at most as many as its bytes allow: `most_prompt_tokens`.
- A response with content has at least one token, and at most as many as the request allows: `most_output_tokens`.
- Neither count is far too low for the length of its text: `LONGEST_TOKEN`, `USUAL_TOKEN`.
- A total that is larger than its parts includes hidden output (Gemini, xAI). A total without parts is split.
- Cached tokens are part of the prompt. If they are more than the prompt, the provider counts them separately, provided
  that its total agrees or is missing. Else the cached tokens are not used, and all input costs the full price.
- A stream that ended before its last count used at least the tokens that arrived.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from platform_app.llm.formats import ApiFormat
from platform_app.llm.providers.anthropic import request_fields as messages_fields
from platform_app.llm.providers.openai import request_fields as chat_fields
from platform_app.llm.providers.openai.request_fields import steers
from platform_app.llm.providers.openai_responses import request_fields as responses_fields
from platform_app.llm.usage.counts import TokenUsage
from platform_app.llm.usage.token_estimate import estimate_text_tokens, output_limit

LONGEST_TOKEN = 256
"""The maximum of characters in one token. The longest tokens of tokenizers are 128 spaces."""
USUAL_TOKEN = 32
"""The maximum average of characters per token in a long response; prose has four, indented code ten."""
TEMPLATE_TOKENS = 16_384
"""The tokens that a provider may add to any prompt: templates, its own instructions, descriptions of tools."""
IMAGE_TOKENS = 65_536
"""The maximum for one image. OpenAI's smaller models charge up to about 50,000."""
REMOTE_TOKENS = 2_000_000
"""The maximum for data outside the request: files, videos, searches at the provider. It is the largest usual
context."""
LARGEST_OUTPUT_TOKENS = 262_144
"""The maximum for a response whose request sets no limit."""
LARGEST_LIMIT_TOKENS = 1_000_000
"""A larger max_tokens of a request is treated as this."""
HIDDEN_TOKENS = 131_072
"""The thinking tokens that a provider may count beyond max_tokens, if the request or the response shows thinking."""
_PLAIN_PARTS = frozenset(
    {"text", "refusal", "input_audio", "thinking", "redacted_thinking", "input_text", "output_text", "tool_use",
     "tool_result", "summary_text", "reasoning_text"}
)  # fmt: skip
_EXTRA_FIELDS: Mapping[ApiFormat, Callable[[Mapping[str, Any]], tuple[str, ...]]] = {
    ApiFormat.CHAT: chat_fields.extra_fields,
    ApiFormat.RESPONSES: responses_fields.extra_fields,
    ApiFormat.MESSAGES: messages_fields.extra_fields,
}
_STORED_INPUT = ("previous_response_id", "conversation", "prompt")
"""Fields of Responses that name input that the provider has stored."""
_THINKING_FIELDS = ("reasoning_effort", "reasoning", "thinking", "enable_thinking", "chat_template_kwargs")


class CallFacts(NamedTuple):
    """What the gateway knows about a call without its provider's counts."""

    body: Mapping[str, Any]
    """The request's fields, in any format."""
    prompt_estimate: int
    makes_text: bool
    """Whether the call is a chat; embeddings have no output tokens."""
    characters: int
    """The length of the generated content, in characters of Latin script; of an incomplete stream, what arrived."""
    complete: bool = True
    """Whether the provider counted at the end of the response."""
    format: ApiFormat = ApiFormat.CHAT
    """The format of `body`; that of chats for embeddings."""


class SettledUsage(NamedTuple):
    """The tokens that are recorded and charged."""

    usage: TokenUsage
    estimated: bool
    """Whether any of it is an estimate."""
    refused: bool = False
    """Whether a count of the provider is not used."""


def settle_usage(counts: TokenUsage | None, facts: CallFacts) -> SettledUsage:
    """Decide how many tokens a call used. `counts` are the provider's; None if it reported none."""
    if counts is None:
        return SettledUsage(_estimate(facts), True)
    prompt, completion = counts.prompt_tokens, counts.completion_tokens
    if (  # almost every response: the counts are plausible as they are
        facts.complete
        and counts.total_tokens in (0, prompt + completion)
        and _may_be_prompt(prompt, facts)
        and counts.cached_tokens + counts.cache_write_tokens <= prompt
        and counts.reasoning_tokens <= completion <= 4 * facts.characters
        and not _too_few(completion, facts)
        and (facts.makes_text or not completion)
    ):
        if not counts.total_tokens:
            counts = counts._replace(total_tokens=prompt + completion)
        return SettledUsage(counts, False)
    return _settle_implausible(counts, facts)


def most_prompt_tokens(body: Mapping[str, Any], estimate: int, api_format: ApiFormat = ApiFormat.CHAT) -> int:
    """Return the maximum of prompt tokens. A token is at least one byte of text, so the size of the request is a bound,
    plus the parts that may have more tokens than bytes."""
    try:
        size = len(orjson.dumps(body))
    except (TypeError, RecursionError):  # a number of more than 64 bits, which orjson does not read
        size = 4 * estimate
    parts = list(_parts(body.get("messages") or body.get("input")))
    images = sum("image" in kind for kind in parts)
    remote = any(kind not in _PLAIN_PARTS and "image" not in kind for kind in parts)
    remote = remote or any(steers(name) for name in _EXTRA_FIELDS[api_format](body))
    if api_format is ApiFormat.RESPONSES:
        remote = remote or any(body.get(name) is not None for name in _STORED_INPUT)
    return size + TEMPLATE_TOKENS + images * IMAGE_TOKENS + (REMOTE_TOKENS if remote else 0)


def most_output_tokens(body: Mapping[str, Any], characters: int, *, thinks: bool) -> int:
    """Return the maximum of output tokens: twice what the request allows, for servers that count differently, plus the
    characters that arrived. `thinks`: the response shows that the model thinks."""
    limit = output_limit(body)
    each = LARGEST_OUTPUT_TOKENS if limit is None else 2 * min(limit, LARGEST_LIMIT_TOKENS)
    if thinks or any(body.get(name) for name in _THINKING_FIELDS):
        each += HIDDEN_TOKENS
    if body.get("prediction"):  # rejected tokens of a prediction are charged as output
        each += HIDDEN_TOKENS
    choices = body.get("n")
    count = choices if type(choices) is int and 1 < choices <= LONGEST_TOKEN else 1
    return each * count + 4 * characters


def _settle_implausible(counts: TokenUsage, facts: CallFacts) -> SettledUsage:
    most_output = 0
    if facts.makes_text:
        most_output = most_output_tokens(facts.body, facts.characters, thinks=counts.reasoning_tokens > 0)
    read = _consistent(counts, most_output, facts)
    guess = _estimate(facts)
    prompt, completion = read.prompt_tokens, read.completion_tokens
    # Tokens that lose their cache discount cost more, so the usage counts as estimated.
    estimated = read.cached_tokens + read.cache_write_tokens < counts.cached_tokens + counts.cache_write_tokens
    if not _may_be_prompt(prompt, facts):
        read, prompt, estimated = TokenUsage(), guess.prompt_tokens, True
    if (facts.complete and _too_few(completion, facts)) or completion > most_output:
        completion, estimated = guess.completion_tokens, True
    refused = estimated
    if not facts.complete:
        completion, estimated = max(completion, guess.completion_tokens), True
    usage = read._replace(
        prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion,
        reasoning_tokens=min(counts.reasoning_tokens, completion),
    )  # fmt: skip
    return SettledUsage(usage, estimated, refused)


def _too_few(completion: int, facts: CallFacts) -> bool:
    """Return whether the response is too long for so few tokens. A short response may be one token."""
    return facts.characters > completion * USUAL_TOKEN + LONGEST_TOKEN or (not completion and facts.characters > 0)


def _may_be_prompt(tokens: int, facts: CallFacts) -> bool:
    if tokens <= 0 or facts.prompt_estimate > tokens * LONGEST_TOKEN:
        return False
    # Computing the exact bound reads the whole body, which may be large.
    usual = 4 * facts.prompt_estimate + TEMPLATE_TOKENS
    return tokens <= usual or tokens <= most_prompt_tokens(facts.body, facts.prompt_estimate, facts.format)


def _consistent(counts: TokenUsage, most_output: int, facts: CallFacts) -> TokenUsage:
    """Return the counts with one meaning: the prompt includes cached tokens, the completion includes thinking, and a
    missing part is derived from the total."""
    prompt, completion, total = counts.prompt_tokens, counts.completion_tokens, counts.total_tokens
    cached = counts.cached_tokens + counts.cache_write_tokens
    if prompt < cached:
        if prompt and (not total or total >= prompt + cached + completion) and _may_be_prompt(prompt + cached, facts):
            prompt += cached
        else:
            counts = counts._replace(cached_tokens=0, cache_write_tokens=0, cache_write_1h_tokens=0)
    if not facts.makes_text:
        return counts._replace(prompt_tokens=prompt or total, completion_tokens=completion)
    if not total and counts.reasoning_tokens > completion > 0:
        completion += counts.reasoning_tokens
    if total > prompt + completion:
        if not prompt:
            prompt = total - (completion or _estimate(facts).completion_tokens)
        elif total - prompt <= most_output:
            completion = total - prompt
    return counts._replace(prompt_tokens=prompt, completion_tokens=completion)


def _estimate(facts: CallFacts) -> TokenUsage:
    output = estimate_text_tokens(facts.characters) if facts.makes_text else 0
    return TokenUsage(facts.prompt_estimate, output, facts.prompt_estimate + output)


def _parts(messages: object) -> Iterator[str]:
    """Yield the types of the content parts of all messages, those in results of tools included."""
    for message in messages if isinstance(messages, list | tuple) else ():
        if isinstance(message, Mapping):
            content = message.get("content") or message.get("output")
            for part in content if isinstance(content, list | tuple) else ():
                if isinstance(part, Mapping):
                    yield str(part.get("type"))
                    if part.get("type") == "tool_result":
                        yield from _parts([part])
