"""The exact bounds of counts that are read, and of a usage object that is stored."""

import json

import pytest

from platform_app.llm.usage.counts import (
    MAX_KEPT,
    TokenUsage,
    kept_usage,
    merged_counts,
    number_leaves,
    parse_usage,
    read_usage,
    stated_microusd,
    whole_count,
)


@pytest.mark.parametrize(
    ("value", "count"),
    [(0, 0), (1, 1), (1.0, 1), (1.5, 0), (-1, 0), (1_000_000_000, 1_000_000_000), (1_000_000_001, 0), (1e9 + 1, 0)],
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


def object_of(length: int, **more: object) -> dict[str, object]:
    """Return an object of numbers whose JSON has this many characters, between 987 and 1045."""
    names = [f"{number:02d}" + "x" * 58 for number in range(15)]
    counted = dict.fromkeys([*names, "y" * (length - 981)], 1)
    assert len(json.dumps(counted, separators=(",", ":"))) == length
    return {**counted, **more}


def test_longest_stored_usage_has_exactly_1024_characters() -> None:
    longest, longer = object_of(1024), object_of(1025)
    assert kept_usage(longest) == kept_usage({**longest, "note": "text"}) == json.dumps(longest, separators=(",", ":"))
    assert kept_usage(longer) is None
    assert kept_usage({**longer, "note": "text"}) is None


def test_many_short_counts_are_stored_while_they_fit() -> None:
    """Beyond 1024 characters, only the first 32 are."""
    many = {**{f"{number:03d}": 1 for number in range(126)}, "x" * 10: 1}
    kept = kept_usage(many)
    assert kept == json.dumps(many, separators=(",", ":"))
    assert len(kept) == 1024
    more = {f"{number:03d}": 1 for number in range(128)}
    kept = kept_usage(more)
    assert kept is not None
    assert json.loads(kept) == {f"{number:03d}": 1 for number in range(32)}


@pytest.mark.parametrize("name", ["bad\x00name", "line\nbreak", "tab\t"])
def test_stored_usage_has_only_printable_names(name: str) -> None:
    assert kept_usage({name: 1, "n": 1}) == '{"n":1}'


@pytest.mark.parametrize("number", [2**64, -(2**64), 10**30])
def test_stored_usage_has_large_numbers_as_text(number: int) -> None:
    assert kept_usage({"n": number}) == f'{{"n":"{number}"}}'


def test_stored_texts_and_names_have_a_bound() -> None:
    longest = {"n" * 64: 1, "digits": "5" * 32}
    assert number_leaves({**longest, "n" * 65: 1, "more": "5" * 33}) == longest
    assert number_leaves({"large": 10**40}) == {"large": "1" + "0" * 31}


def test_empty_objects_and_texts_are_left_out() -> None:
    assert number_leaves({"a": {}, "b": {"c": "text"}, "d": "", "e": "1e5x", "f": [], "g": "-1.5E+3", "h": None}) == {
        "g": "-1.5E+3", "h": None,
    }  # fmt: skip


def test_objects_are_kept_four_deep() -> None:
    four: dict[str, object] = {"a": {"b": {"c": {"n": 1}}}}
    assert number_leaves(four) == four
    assert number_leaves({"n": 1, "x": four}) == {"n": 1}


def test_counts_are_merged_four_deep() -> None:
    """Deeper, the later object replaces the earlier one, unless an object is there."""
    before: dict[str, object] = {"a": {"b": {"c": {"n": 9, "m": None}}}}
    later: dict[str, object] = {"a": {"b": {"c": {"n": 5, "m": 7}}}}
    assert merged_counts(before, later) == {"a": {"b": {"c": {"n": 9, "m": 7}}}}
    assert merged_counts({"x": before}, {"x": later}) == {"x": before}
    assert merged_counts({}, {"x": later}) == {"x": later}


def test_merged_counts_of_other_types() -> None:
    assert merged_counts({"a": {"n": 1}, "b": 0, "c": "text", "d": 3}, {"a": 5, "b": {"n": 2}, "c": 1.5, "d": {}}) == {
        "a": {"n": 1}, "b": {"n": 2}, "c": 1.5, "d": 3,
    }  # fmt: skip


@pytest.mark.parametrize(("before", "later", "merged"), [(5, 7, 7), (7, 5, 7), (5, 5.0, 5), (5, 7.0, 7), (0, 7, 7)])
def test_larger_count_stays(before: object, later: object, merged: int) -> None:
    assert merged_counts({"n": before}, {"n": later}) == {"n": merged}


def test_merging_leaves_the_earlier_object_alone() -> None:
    before: dict[str, object] = {"n": 1, "details": {"n": 1}}
    merged_counts(before, {"n": 2, "details": {"n": 2}})
    assert before == {"n": 1, "details": {"n": 1}}


@pytest.mark.parametrize(
    ("cost", "microusd"),
    [
        (0.000001, 1),
        (0.0000005, 1),
        (0, None),
        (0.0, None),
        (-0.0000005, None),
        (0.01, 10_000),
        (0.010001, None),
        (float("nan"), None),
        (float("inf"), None),
        ({"total_cost": 0.000001}, 1),
        ({"total_cost": True}, None),
        ({}, None),
        (None, None),
    ],
)
def test_stated_cost_of_one_token_has_bounds(cost: object, microusd: int | None) -> None:
    """At most a cent for each token, and any cost above zero is at least a millionth of a dollar."""
    assert stated_microusd({"cost": cost}, 1) == microusd


def test_large_stated_cost_is_exact() -> None:
    assert stated_microusd({"cost": 5}, 1000) == stated_microusd({"cost": 5.0}, 1000) == 5_000_000
