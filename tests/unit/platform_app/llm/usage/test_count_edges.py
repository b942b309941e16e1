"""The exact bounds of counts that are read, and of a usage object that is stored."""

import json

import pytest

from platform_app.llm.usage.counts import (
    MAX_COUNT,
    MAX_KEPT,
    TokenUsage,
    kept_usage,
    merged_counts,
    number_leaves,
    parse_usage,
    read_usage,
    whole_count,
)


@pytest.mark.parametrize(
    ("value", "count"), [(0, 0), (1, 1), (1.0, 1), (1.5, 0), (-1, 0), (MAX_COUNT, MAX_COUNT), (MAX_COUNT + 1, 0)]
)
def test_count_is_between_one_and_the_maximum(value: object, count: int) -> None:
    assert whole_count(value) == count


@pytest.mark.parametrize("integer", [2**63 - 1, -(2**63 - 1)])
def test_integer_of_64_bits_is_stored_as_a_number(integer: int) -> None:
    assert number_leaves({"n": integer}) == {"n": integer}
    beyond = integer + (1 if integer > 0 else -1)
    assert number_leaves({"n": beyond}) == {"n": str(beyond)}


@pytest.mark.parametrize("usage", [{"a": [1, 2]}, {"a": "text"}, {"a": ["text"]}, {"a": {"b": "text"}}])
def test_stored_usage_has_no_text_and_no_list(usage: dict[str, object]) -> None:
    assert kept_usage({**usage, "n": 1}) == '{"n":1}'


def test_stored_usage_has_at_most_1024_characters() -> None:
    names = {f"{number:03d}": 1 for number in range(32)}
    assert kept_usage(names) == json.dumps(names, separators=(",", ":"))
    long = {f"{number:03d}" + "x" * 58: 1 for number in range(32)}
    assert len(json.dumps(long)) > MAX_KEPT
    assert kept_usage(long) is None


def test_each_count_of_a_stream_keeps_its_maximum() -> None:
    first, later = TokenUsage(9, 1, 10, 8, 2, 1, 0), TokenUsage(5, 3, 8, 9, 1, 3, 2)
    assert first.merged(later) == TokenUsage(9, 3, 10, 9, 2, 3, 2)


def test_null_in_a_later_event_keeps_the_count() -> None:
    before = {"prompt_tokens": 9, "details": {"cached_tokens": 4}, "cost": 0.5}
    later = {"prompt_tokens": None, "details": None, "cost": None}
    assert merged_counts(before, later) == before


def test_usage_without_a_total_is_usage() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 3}
    assert read_usage({"usage": usage, "eval_count": 5, "prompt_eval_count": 5}) == (usage, TokenUsage(9, 3))


def test_total_under_another_name_is_read() -> None:
    counts = parse_usage({"prompt_tokens": 9, "completion_tokens": 3, "totalTokens": 12})
    assert counts == TokenUsage(9, 3, 12)
