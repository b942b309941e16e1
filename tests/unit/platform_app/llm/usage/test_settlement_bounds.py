"""The bounds of plausible counts in numbers, for complete responses and for streams that ended early.

Counts of a complete response that are plausible as they are take a short way through the code; all others are examined
one by one, and so are those of an early end. Both must have the same bounds.
"""

import json
from typing import Any

import pytest

from platform_app.llm.formats import ApiFormat
from platform_app.llm.usage.counts import TokenUsage
from platform_app.llm.usage.settlement import (
    CallFacts,
    SettledUsage,
    most_output_tokens,
    most_prompt_tokens,
    settle_usage,
)

BODY: dict[str, Any] = {"messages": [{"role": "user", "content": ""}]}
IMAGE = {"type": "image_url", "image_url": {}}
USUAL = 4 * 1000 + 16_384
"""The usual maximum of prompt tokens for an estimate of 1000."""


def facts(
    characters: int = 100, *, estimate: int = 1000, complete: bool = True, makes_text: bool = True, **body: Any
) -> CallFacts:
    return CallFacts({**BODY, **body}, estimate, makes_text, characters, complete)


def refused(known: CallFacts, prompt: int = 900, completion: int = 60, **counts: int) -> bool:
    return settle_usage(TokenUsage(prompt, completion, **counts), known).refused


@pytest.mark.parametrize("complete", [True, False])
def test_prompt_has_the_same_bounds_for_all(complete: bool) -> None:
    known = facts(complete=complete)
    assert [refused(known, prompt) for prompt in (3, 4, USUAL, USUAL + 1)] == [True, False, False, True]
    exact = facts(estimate=1024, complete=complete)
    assert [refused(exact, prompt) for prompt in (3, 4)] == [True, False]
    short = facts(estimate=1, complete=complete)
    assert [refused(short, prompt) for prompt in (0, 1)] == [True, False]
    empty = facts(estimate=0, complete=complete)
    assert [refused(empty, prompt) for prompt in (0, 1)] == [True, False]


@pytest.mark.parametrize("complete", [True, False])
def test_parts_of_the_request_raise_the_bound(complete: bool) -> None:
    known = facts(complete=complete, messages=[{"role": "user", "content": [IMAGE] * 10}])
    most = most_prompt_tokens(known.body, 1000)
    assert most > USUAL
    assert [refused(known, prompt) for prompt in (most, most + 1)] == [False, True]


@pytest.mark.parametrize("tokens", [1, 100])
def test_output_is_bounded_by_limit_and_text(tokens: int) -> None:
    """Twice the limit, and four tokens for each character."""
    known = facts(max_tokens=tokens)
    most = 2 * tokens + 400
    assert [refused(known, completion=made) for made in (most, most + 1)] == [False, True]


@pytest.mark.parametrize(("characters", "least"), [(0, 0), (1, 1), (256, 1), (288, 1), (289, 2), (256 + 320, 10)])
def test_long_text_has_a_least_number_of_tokens(characters: int, least: int) -> None:
    """One for each 32 characters beyond 256."""
    known = facts(characters)
    assert not refused(known, completion=least)
    assert least == 0 or refused(known, completion=least - 1)


@pytest.mark.parametrize("completion", [1, 20])
def test_embeddings_never_have_output(completion: int) -> None:
    known = facts(makes_text=False)
    assert settle_usage(TokenUsage(900, completion), known) == SettledUsage(TokenUsage(900, 0, 900), True, True)
    assert settle_usage(TokenUsage(900), facts(0, makes_text=False)) == SettledUsage(TokenUsage(900, 0, 900), False)


@pytest.mark.parametrize("total", [0, 1, 840, 959, 960])
def test_settled_total_is_the_sum_of_its_parts(total: int) -> None:
    """Also where the provider's total is smaller, for example the difference of the parts."""
    assert settle_usage(TokenUsage(900, 60, total), facts()) == SettledUsage(TokenUsage(900, 60, 960), False)


def test_call_without_counts_is_estimated() -> None:
    assert settle_usage(None, facts(35)) == SettledUsage(TokenUsage(1000, 10, 1010), True)
    assert settle_usage(None, facts(35, makes_text=False)) == SettledUsage(TokenUsage(1000, 0, 1000), True)


def test_total_smaller_than_the_output_leaves_no_prompt() -> None:
    known = facts(35, estimate=200)
    for total in (1, 9, 10):
        assert settle_usage(TokenUsage(total_tokens=total), known).usage.prompt_tokens == 200
    assert settle_usage(TokenUsage(total_tokens=11), known).usage.prompt_tokens == 1


@pytest.mark.parametrize(
    ("total", "usage"),
    [
        (0, TokenUsage(40, 20, 60, 20, 10, 5)),
        (60, TokenUsage(40, 20, 60, 20, 10, 5)),
        (59, TokenUsage(10, 49, 59)),  # what the total has beyond the prompt is output
        (30, TokenUsage(10, 20, 30)),
    ],
)
def test_cached_tokens_beyond_the_prompt(total: int, usage: TokenUsage) -> None:
    """They join the prompt if the total agrees, else they cost as much as other input."""
    lost = not usage.cached_tokens
    assert settle_usage(TokenUsage(10, 20, total, 20, 10, 5), facts()) == SettledUsage(usage, lost, lost)


@pytest.mark.parametrize("complete", [True, False])
def test_prompt_may_be_cached_as_a_whole(complete: bool) -> None:
    settled = settle_usage(TokenUsage(30, 60, 0, 20, 10), facts(complete=complete))
    assert settled.usage == TokenUsage(30, 60, 90, 20, 10)


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize(
    ("completion", "reasoning", "total", "charged"),
    [(60, 60, 0, 60), (60, 61, 0, 121), (60, 61, 960, 60), (60, 59, 0, 60), (60, 61, 1021, 121)],
)
def test_thinking_beyond_the_output_is_counted_apart(
    completion: int, reasoning: int, total: int, charged: int, complete: bool
) -> None:
    counts = TokenUsage(900, completion, total, reasoning_tokens=reasoning)
    settled = settle_usage(counts, facts(complete=complete))
    assert settled.usage == TokenUsage(900, charged, 900 + charged, reasoning_tokens=min(reasoning, charged))


@pytest.mark.parametrize(("completion", "charged"), [(0, 29), (1, 301)])
def test_thinking_joins_any_output_that_was_counted(completion: int, charged: int) -> None:
    """Without a count of the output, it is estimated: a hundred characters are 29 tokens."""
    settled = settle_usage(TokenUsage(900, completion, reasoning_tokens=300), facts())
    assert settled.usage.completion_tokens == charged


@pytest.mark.parametrize(("reasoning", "allowed"), [(0, False), (1, True)])
def test_any_thinking_in_the_response_raises_the_bound(reasoning: int, allowed: bool) -> None:
    most = 2 + 400 + 131_072
    known = facts(max_tokens=1)
    assert refused(known, completion=most, reasoning_tokens=reasoning) is not allowed
    assert refused(known, completion=most + 1, reasoning_tokens=reasoning)


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({}, 262_144),
        ({"max_tokens": 1_000_000}, 2_000_000),
        ({"max_tokens": 1_000_001}, 2_000_000),
        ({"max_tokens": 1, "n": 0}, 2),
        ({"max_tokens": 1, "n": 1}, 2),
        ({"max_tokens": 1, "n": 256}, 512),
        ({"max_tokens": 1, "n": 257}, 2),
        ({"max_tokens": 1, "thinking": {"type": "enabled"}}, 2 + 131_072),
        ({"max_tokens": 1, "prediction": {}, "thinking": None}, 2),
        ({"max_tokens": 1, "prediction": {"content": "x"}, "thinking": {"type": "enabled"}}, 2 + 2 * 131_072),
    ],
    ids=repr,
)
def test_output_bound_in_numbers(fields: dict[str, Any], most: int) -> None:
    assert most_output_tokens(fields, 0, thinks=False) == most


TOOL_RESULT = {"type": "tool_result", "content": [IMAGE, {"type": "text"}]}


@pytest.mark.parametrize(
    ("content", "more"),
    [
        ("text", 0),
        ([{"type": "text", "content": [IMAGE]}], 0),
        ([IMAGE], 65_536),
        ([{"type": "image"}, {"type": "input_image"}], 2 * 65_536),
        ([TOOL_RESULT], 65_536),
        ([{"type": "tool_result", "content": [TOOL_RESULT]}], 65_536),
        ([{"type": "file"}, {"type": "document"}], 2_000_000),
        ([{"type": "file"}, IMAGE], 2_000_000 + 65_536),
        ([{"text": "no type"}], 2_000_000),
    ],
    ids=repr,
)
@pytest.mark.parametrize("field", ["content", "output"])
def test_prompt_bound_in_numbers(content: object, more: int, field: str) -> None:
    """The bytes of the request, 16,384 tokens for templates, and what its parts may add."""
    body = {"messages": [{field: content}]}
    assert most_prompt_tokens(body, 1000) == len(json.dumps(body, separators=(",", ":"))) + 16_384 + more


@pytest.mark.parametrize("field", ["previous_response_id", "conversation", "prompt"])
def test_stored_input_of_responses_raises_the_bound(field: str) -> None:
    plain = most_prompt_tokens({"input": "x"}, 9, ApiFormat.RESPONSES)
    stored = most_prompt_tokens({"input": "x", field: "stored"}, 9, ApiFormat.RESPONSES)
    assert 2_000_000 <= stored - plain < 2_000_100
    assert most_prompt_tokens({"input": "x", field: None}, 9, ApiFormat.RESPONSES) - plain < 100
    assert most_prompt_tokens({"input": "x", "prompt": "stored"}, 9) - plain < 100, "another format has no such field"
