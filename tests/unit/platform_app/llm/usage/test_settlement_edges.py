"""The exact bounds between counts that are used and counts that are estimated."""

from typing import Any

import pytest

from platform_app.llm.usage.counts import TokenUsage, stated_microusd
from platform_app.llm.usage.settlement import (
    HIDDEN_TOKENS,
    LARGEST_LIMIT_TOKENS,
    LARGEST_OUTPUT_TOKENS,
    LONGEST_TOKEN,
    TEMPLATE_TOKENS,
    USUAL_TOKEN,
    CallFacts,
    most_output_tokens,
    most_prompt_tokens,
    settle_usage,
)

ESTIMATE = 1000
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": ""}]}


def facts(characters: int = 100, *, makes_text: bool = True, **body: Any) -> CallFacts:
    return CallFacts({**BODY, **body}, ESTIMATE, makes_text, characters)


def estimated(known: CallFacts | None = None, **counts: int) -> bool:
    return settle_usage(
        TokenUsage(**{"prompt_tokens": 900, "completion_tokens": 20, **counts}), known or facts()
    ).estimated


def test_largest_usual_prompt_is_used() -> None:
    """Beyond it the exact bound counts, which is small for this body."""
    most = 4 * ESTIMATE + TEMPLATE_TOKENS
    assert not estimated(prompt_tokens=most)
    assert estimated(prompt_tokens=most + 1)


def test_smallest_prompt_for_its_text_is_used() -> None:
    known = facts()._replace(prompt_estimate=LONGEST_TOKEN * 3)
    assert not estimated(known, prompt_tokens=3)
    assert estimated(known, prompt_tokens=2)


def test_smallest_completion_for_its_text_is_used() -> None:
    known = facts(characters=10 * USUAL_TOKEN + LONGEST_TOKEN)
    assert not estimated(known, completion_tokens=10)
    assert estimated(known, completion_tokens=9)


def test_largest_completion_for_its_limit_is_used() -> None:
    known = facts(max_tokens=50)
    assert not estimated(known, completion_tokens=2 * 50 + 4 * 100)
    assert estimated(known, completion_tokens=2 * 50 + 4 * 100 + 1)


def test_hidden_output_in_the_total_is_charged_up_to_the_bound() -> None:
    most = 2 * 50 + 4 * 100
    for hidden, charged in ((most, most), (most + 1, 20)):
        counts = TokenUsage(prompt_tokens=900, completion_tokens=20, total_tokens=900 + hidden)
        assert settle_usage(counts, facts(max_tokens=50)).usage.completion_tokens == charged


def test_separate_cached_and_written_tokens_join_the_prompt() -> None:
    counts = TokenUsage(prompt_tokens=10, completion_tokens=20, cached_tokens=30, cache_write_tokens=5)
    settled = settle_usage(counts, facts())
    assert (settled.usage.prompt_tokens, settled.usage.cached_tokens, settled.estimated) == (45, 30, False)


def test_cached_tokens_beyond_total_lose_their_discount() -> None:
    counts = TokenUsage(prompt_tokens=10, completion_tokens=20, total_tokens=30, cached_tokens=30, cache_write_tokens=5)
    settled = settle_usage(counts, facts())
    assert (settled.usage.prompt_tokens, settled.usage.cached_tokens, settled.estimated) == (10, 0, True)


def test_cache_writes_losing_discount_are_estimated() -> None:
    counts = TokenUsage(prompt_tokens=10, completion_tokens=20, total_tokens=30, cache_write_tokens=11)
    assert settle_usage(counts, facts()).estimated


def test_embeddings_take_their_total_as_the_prompt() -> None:
    settled = settle_usage(TokenUsage(total_tokens=900), facts(0, makes_text=False))
    assert (settled.usage.prompt_tokens, settled.usage.completion_tokens, settled.estimated) == (900, 0, False)


def test_prompt_that_is_missing_follows_from_the_total() -> None:
    settled = settle_usage(TokenUsage(completion_tokens=20, total_tokens=920), facts())
    assert (settled.usage.prompt_tokens, settled.usage.total_tokens) == (900, 920)


@pytest.mark.parametrize(
    ("body", "most"),
    [
        ({}, LARGEST_OUTPUT_TOKENS + 4),
        ({"max_tokens": 1}, 2 + 4),
        ({"max_tokens": 0}, LARGEST_OUTPUT_TOKENS + 4),
        ({"max_tokens": 7, "max_completion_tokens": 5}, 14 + 4),
        ({"max_tokens": LARGEST_LIMIT_TOKENS + 1}, 2 * LARGEST_LIMIT_TOKENS + 4),
        ({"max_tokens": 1, "n": 2}, 2 * 2 + 4),
        ({"max_tokens": 1, "n": LONGEST_TOKEN}, 2 * LONGEST_TOKEN + 4),
        ({"max_tokens": 1, "n": LONGEST_TOKEN + 1}, 2 + 4),
        ({"max_tokens": 1, "prediction": {"type": "content"}}, 2 + HIDDEN_TOKENS + 4),
        ({"max_tokens": 1, "reasoning_effort": "low"}, 2 + HIDDEN_TOKENS + 4),
    ],
)
def test_largest_output_follows_from_the_request(body: dict[str, Any], most: int) -> None:
    assert most_output_tokens(body, 1, thinks=False) == most


def test_prompt_with_unserialisable_number_has_a_bound() -> None:
    assert most_prompt_tokens({"messages": [], "seed": 2**70}, 10) == 40 + TEMPLATE_TOKENS


@pytest.mark.parametrize(
    ("cost", "microusd"),
    [(0.0000011, 2), (0.000002, 2), (0, None), (-1, None), (True, None), ("1", None), ({"total_cost": 0.5}, 500_000)],
)
def test_stated_cost_is_rounded_up(cost: object, microusd: int | None) -> None:
    assert stated_microusd({"cost": cost}, 1000) == microusd


def test_stated_cost_has_a_bound_per_token() -> None:
    assert stated_microusd({"cost": 0.01}, 1) == 10_000
    assert stated_microusd({"cost": 0.010001}, 1) is None
