"""The counts of formats other than OpenAI's: their names, and what each of them includes."""

from typing import Any

import pytest

from platform_app.llm.usage.counts import TokenUsage, parse_usage, read_usage

PROMPT = [
    "prompt_tokens", "input_tokens", "promptTokens", "inputTokens", "promptTokenCount", "inputTokenCount",
    "prompt_token_count", "prompt_eval_count", "prompt_n",
]  # fmt: skip
COMPLETION = [
    "completion_tokens", "output_tokens", "completionTokens", "outputTokens", "candidatesTokenCount",
    "outputTokenCount", "candidates_token_count", "eval_count", "predicted_n",
]  # fmt: skip
READ = ["cached_tokens", "prompt_cache_hit_tokens", "cachedContentTokenCount", "cached_content_token_count"]
READ_APART = ["cache_read_input_tokens", "cacheReadInputTokens", "cache_n"]
WRITES = ["cache_creation_input_tokens", "cacheWriteInputTokens"]


@pytest.mark.parametrize("name", PROMPT)
def test_prompt_has_many_names(name: str) -> None:
    assert parse_usage({name: 9}) == TokenUsage(prompt_tokens=9)


@pytest.mark.parametrize("name", COMPLETION)
def test_completion_has_many_names(name: str) -> None:
    assert parse_usage({name: 9}) == TokenUsage(completion_tokens=9)


@pytest.mark.parametrize("name", ["total_tokens", "totalTokens", "totalTokenCount", "total_token_count"])
def test_total_has_many_names(name: str) -> None:
    assert parse_usage({name: 9}) == TokenUsage(total_tokens=9)


def test_openai_names_have_precedence() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    others = {"input_tokens": 10, "output_tokens": 20, "totalTokens": 30}
    assert parse_usage({**others, **usage}) == TokenUsage(1, 2, 3)


@pytest.mark.parametrize("name", READ)
def test_cached_tokens_are_part_of_the_prompt(name: str) -> None:
    assert parse_usage({"prompt_tokens": 9, name: 4}) == TokenUsage(9, cached_tokens=4)
    assert parse_usage({"input_tokens": 9, name: 4}) == TokenUsage(9, cached_tokens=4)


@pytest.mark.parametrize("name", READ_APART)
def test_tokens_read_apart_join_the_prompt(name: str) -> None:
    """OpenAI's name of the prompt includes them already."""
    assert parse_usage({"input_tokens": 9, name: 4}) == TokenUsage(13, cached_tokens=4)
    assert parse_usage({name: 4}) == TokenUsage(4, cached_tokens=4)
    assert parse_usage({"prompt_tokens": 9, name: 4}) == TokenUsage(9, cached_tokens=4)


@pytest.mark.parametrize("name", WRITES)
def test_tokens_written_apart_join_the_prompt(name: str) -> None:
    assert parse_usage({"input_tokens": 9, name: 4}) == TokenUsage(13, cache_write_tokens=4)
    assert parse_usage({"prompt_tokens": 9, name: 4}) == TokenUsage(9, cache_write_tokens=4)


def test_both_kinds_of_cached_tokens_join_the_prompt() -> None:
    usage = {"input_tokens": 9, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 2}
    assert parse_usage(usage) == TokenUsage(15, cached_tokens=4, cache_write_tokens=2)
    assert parse_usage({**usage, "cached_tokens": 3}) == TokenUsage(15, cached_tokens=3, cache_write_tokens=2)


@pytest.mark.parametrize(
    ("hours", "kept"),
    [({"ephemeral_1h_input_tokens": 2}, 2), ({"ephemeral_5m_input_tokens": 2}, 0), (None, 0), ([2], 0)],
)
def test_written_tokens_may_be_kept_for_an_hour(hours: object, kept: int) -> None:
    usage = {"input_tokens": 9, "cache_creation_input_tokens": 4, "cache_creation": hours}
    assert parse_usage(usage) == TokenUsage(13, cache_write_tokens=4, cache_write_1h_tokens=kept)
    assert parse_usage({"input_tokens": 9, "cache_creation": hours}) == TokenUsage(9), "nothing was written"


def test_hour_of_openai_details_has_precedence() -> None:
    details = {"cache_write_tokens": 6, "cache_creation_token_details": {"ephemeral_1h_input_tokens": 5}}
    usage = {"prompt_tokens": 9, "prompt_tokens_details": details, "cache_creation": {"ephemeral_1h_input_tokens": 3}}
    assert parse_usage(usage) == TokenUsage(9, cache_write_tokens=6, cache_write_1h_tokens=5)


def test_hour_without_written_tokens_is_ignored() -> None:
    details = {"cached_tokens": 4, "cache_creation_token_details": {"ephemeral_1h_input_tokens": 5}}
    assert parse_usage({"prompt_tokens": 9, "prompt_tokens_details": details}) == TokenUsage(9, cached_tokens=4)


def test_responses_details_are_read() -> None:
    usage = {
        "input_tokens": 9, "output_tokens": 8, "total_tokens": 17,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
        "output_tokens_details": {"reasoning_tokens": 5},
    }  # fmt: skip
    assert parse_usage(usage) == TokenUsage(9, 8, 17, 4, 3, 0, 5)
    chat = {"prompt_tokens_details": {"cached_tokens": 2, "cache_creation_tokens": 1}}
    thought = {"completion_tokens_details": {"reasoning_tokens": 6}}
    assert parse_usage({**usage, **chat, **thought}) == TokenUsage(9, 8, 17, 2, 1, 0, 6)


@pytest.mark.parametrize("name", ["reasoning_tokens", "thinking_tokens"])
def test_thinking_in_the_details_is_part_of_the_output(name: str) -> None:
    usage = {"input_tokens": 9, "output_tokens": 8, "output_tokens_details": {name: 5}}
    assert parse_usage(usage) == TokenUsage(9, 8, reasoning_tokens=5)


@pytest.mark.parametrize("odd", [None, [], "x", 5])
def test_odd_details_of_responses_are_ignored(odd: object) -> None:
    usage = {"input_tokens": 9, "output_tokens": 8, "input_tokens_details": odd, "output_tokens_details": odd}
    assert parse_usage(usage) == TokenUsage(9, 8)
    assert parse_usage({"prompt_tokens": 9, "completion_tokens_details": odd}) == TokenUsage(9)


def test_cache_hits_and_misses_are_the_prompt() -> None:
    """DeepSeek's names."""
    split = {"prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 5}
    assert parse_usage(split) == TokenUsage(9, cached_tokens=4)
    assert parse_usage({**split, "prompt_tokens": 10}) == TokenUsage(10, cached_tokens=4)


def test_only_gemini_counts_thoughts_apart() -> None:
    gemini = {"promptTokenCount": 9, "candidatesTokenCount": 8, "thoughtsTokenCount": 5, "totalTokenCount": 22}
    assert parse_usage(gemini) == TokenUsage(9, 13, 22, reasoning_tokens=5)
    assert parse_usage({"completion_tokens": 8, "reasoning_tokens": 5}) == TokenUsage(0, 8, reasoning_tokens=5)
    snake = {"candidates_token_count": 8, "thoughts_token_count": 5}
    assert parse_usage(snake) == TokenUsage(0, 8, reasoning_tokens=5)
    named = {"completion_tokens": 8, "reasoning_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 4}}
    assert parse_usage(named) == TokenUsage(0, 8, reasoning_tokens=4)


def test_three_fields_are_not_always_the_three_of_openai() -> None:
    """A response without output tokens may have another count in the third field."""
    assert parse_usage({"prompt_tokens": 9, "total_tokens": 9, "cached_tokens": 4}) == TokenUsage(9, 0, 9, 4)
    details = {"cached_tokens": 4}
    usage = {"prompt_tokens": 9, "total_tokens": 9, "prompt_tokens_details": details, "reasoning_tokens": 2}
    assert parse_usage(usage) == TokenUsage(9, 0, 9, 4, reasoning_tokens=2)


def test_fourth_field_is_read() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 8, "total_tokens": 17}
    details: dict[str, Any] = {"prompt_tokens_details": {}, "completion_tokens_details": {}}
    for known in (usage, {**usage, "prompt_tokens_details": {}}, {**usage, **details}):
        assert parse_usage({**known, "prompt_cache_hit_tokens": 4}) == TokenUsage(9, 8, 17, 4)


PLACES: list[dict[str, Any]] = [
    {"x_groq": {"usage": {"prompt_tokens": 5}}},
    {"choices": [None, {"usage": {}}, {"usage": {"prompt_tokens": 5}}]},
    {"usageMetadata": {"promptTokenCount": 5}},
    {"usage_metadata": {"prompt_token_count": 5}},
    {"timings": {"prompt_n": 5}},
    {"meta": {"tokens": {"input_tokens": 5}}},
    {"prompt_eval_count": 5, "eval_count": 0},
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens", "total_tokens"])
def test_any_count_in_the_usual_place_has_precedence(name: str, place: dict[str, Any]) -> None:
    assert read_usage({"usage": {name: 7}, **place}) == ({name: 7}, TokenUsage(**{name: 7}))


@pytest.mark.parametrize("place", PLACES)
def test_other_place_counts_if_the_usual_one_has_no_count(place: dict[str, Any]) -> None:
    found = read_usage({"usage": {"prompt_tokens": 0}, **place})
    assert found is not None
    assert found[1] == TokenUsage(5)
    assert found[0] != {"prompt_tokens": 0}


def test_places_without_a_count_are_no_usage() -> None:
    empty: dict[str, Any] = {"x_groq": {"usage": {}}, "choices": [{"usage": {"prompt_tokens": 0}}], "timings": {},
                             "meta": {"tokens": 5}}  # fmt: skip
    assert read_usage(empty) is None
    assert read_usage({**empty, "eval_count": None}) is None
    assert read_usage({**empty, "usage": {"note": 1}}) == ({"note": 1}, TokenUsage())


def test_first_place_with_a_count_is_used() -> None:
    counted = [{"usage": {"prompt_tokens": number}} for number in (1, 2)]
    assert read_usage({"choices": counted, "timings": {"prompt_n": 3}}) == ({"prompt_tokens": 1}, TokenUsage(1))
    assert read_usage({"x_groq": counted[1], "choices": counted}) == ({"prompt_tokens": 2}, TokenUsage(2))
