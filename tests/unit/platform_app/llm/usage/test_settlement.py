"""Which of a provider's counts are used, and which are estimated (issue 11, kinds 1 and 2)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.llm.responses import ModelResponse
from platform_app.llm.usage.counts import MAX_COUNT, TokenUsage, merged_counts, number_leaves, parse_usage, read_usage
from platform_app.llm.usage.settlement import (
    HIDDEN_TOKENS,
    IMAGE_TOKENS,
    LARGEST_OUTPUT_TOKENS,
    REMOTE_TOKENS,
    TEMPLATE_TOKENS,
    CallFacts,
    SettledUsage,
    most_output_tokens,
    most_prompt_tokens,
    settle_usage,
)
from platform_app.llm.usage.token_estimate import estimate_prompt_tokens, estimate_text_tokens

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello there"}], "max_tokens": 100}
CHARACTERS = 70
GUESS_IN, GUESS_OUT = estimate_prompt_tokens(HELLO), estimate_text_tokens(CHARACTERS)


def facts(characters: int = CHARACTERS, *, complete: bool = True, **body: Any) -> CallFacts:
    asked = {**HELLO, **body}
    return CallFacts(asked, estimate_prompt_tokens(asked), True, characters, complete)


def settled(usage: object, known: CallFacts | None = None) -> SettledUsage:
    return settle_usage(parse_usage(usage), known or facts())


def tokens(settled: SettledUsage) -> tuple[int, int, bool]:
    return settled.usage.prompt_tokens, settled.usage.completion_tokens, settled.estimated


@pytest.mark.parametrize(("prompt", "completion"), [(9, 20), (9.0, 20.0), (500.0, 30)])
def test_plausible_counts_are_used(prompt: object, completion: object) -> None:
    found = settled({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": None})
    assert tokens(found) == (int(float(str(prompt))), int(float(str(completion))), False)
    assert not found.refused


@pytest.mark.parametrize("total", [None, 0, "29", -1])
def test_usage_without_total_gets_sum_of_parts(total: object) -> None:
    found = settled({"prompt_tokens": 9, "completion_tokens": 20, "total_tokens": total})
    assert found == SettledUsage(TokenUsage(9, 20, 29), estimated=False, refused=False)


ODD = [0, 0.0, -0.0, -1, -5.0, 0.5, "9", "many", "", True, False, None, [9], {"n": 9}, float("nan"), float("inf"),
       2**31 * 10, 2**63, 2**64, 10**19, 1e19, 10**30, MAX_COUNT + 1]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_implausible_counts_are_estimated(odd: object) -> None:
    """Each half alone, and both: a plausible count is used, any other is estimated, and the estimate is marked."""
    assert tokens(settled({"prompt_tokens": odd, "completion_tokens": odd, "total_tokens": odd})) == (
        GUESS_IN, GUESS_OUT, True,
    )  # fmt: skip
    assert tokens(settled({"prompt_tokens": 9, "completion_tokens": odd})) == (9, GUESS_OUT, True)
    assert tokens(settled({"prompt_tokens": odd, "completion_tokens": 20})) == (GUESS_IN, 20, True)
    assert settled({"prompt_tokens": odd, "completion_tokens": odd}).refused


@pytest.mark.parametrize("usage", [None, [], [1, 2], "12", 12, True])
def test_missing_usage_is_estimated(usage: object) -> None:
    found = settled(usage)
    assert tokens(found) == (GUESS_IN, GUESS_OUT, True)
    assert not found.refused


@pytest.mark.parametrize("count", [10**5, 10**6, 10**8, MAX_COUNT])
def test_counts_beyond_request_are_estimated(count: int) -> None:
    """No number is absurd alone: a request of eleven characters and a limit of 100 tokens makes it so."""
    assert tokens(settled({"prompt_tokens": count, "completion_tokens": 20})) == (GUESS_IN, 20, True)
    assert tokens(settled({"prompt_tokens": 9, "completion_tokens": count})) == (9, GUESS_OUT, True)


def test_counts_far_too_small_are_estimated() -> None:
    long = facts(characters=70_000, messages=[{"role": "user", "content": "word " * 10_000}])
    found = settled({"prompt_tokens": 1, "completion_tokens": 1}, long)
    assert tokens(found) == (long.prompt_estimate, estimate_text_tokens(70_000), True)


def test_large_prompts_are_plausible() -> None:
    """A larger body, images and files explain more tokens than text does."""
    text = facts(messages=[{"role": "user", "content": "x" * 400_000}])
    assert tokens(settled({"prompt_tokens": 390_000, "completion_tokens": 20}, text))[2] is False
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    pictured = facts(messages=[{"role": "user", "content": [image, image]}])
    assert not settled({"prompt_tokens": 2 * 50_000, "completion_tokens": 20}, pictured).estimated
    assert settled({"prompt_tokens": 2 * IMAGE_TOKENS + 40_000, "completion_tokens": 20}, pictured).estimated
    filed = facts(messages=[{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}])
    assert not settled({"prompt_tokens": 900_000, "completion_tokens": 20}, filed).estimated


def test_prompt_bound_follows_request() -> None:
    plain = most_prompt_tokens(HELLO, GUESS_IN)
    assert TEMPLATE_TOKENS < plain < TEMPLATE_TOKENS + 200
    assert most_prompt_tokens({**HELLO, "data_sources": []}, 9) > REMOTE_TOKENS
    assert most_prompt_tokens({**HELLO, "tools": [{"type": "web_search"}]}, 9) > REMOTE_TOKENS
    assert most_prompt_tokens({**HELLO, "top_k": 5}, 9) < plain + 50
    assert most_prompt_tokens({**HELLO, "seed": 2**70}, 9) >= TEMPLATE_TOKENS
    assert most_prompt_tokens({"messages": [None, {"content": [None, 5]}]}, 9) >= TEMPLATE_TOKENS


def test_output_bound_follows_request() -> None:
    assert most_output_tokens({"max_tokens": 100}, 0, thinks=False) == 200
    assert most_output_tokens({"max_completion_tokens": 100, "max_tokens": 7}, 5, thinks=False) == 220
    assert most_output_tokens({"max_tokens": 100, "n": 3}, 0, thinks=False) == 600
    assert most_output_tokens({"max_tokens": 100}, 0, thinks=True) == 200 + HIDDEN_TOKENS
    assert most_output_tokens({"max_tokens": 100, "reasoning_effort": "low"}, 0, thinks=False) == 200 + HIDDEN_TOKENS
    assert most_output_tokens({}, 0, thinks=False) == LARGEST_OUTPUT_TOKENS
    assert most_output_tokens({"max_tokens": 10**12, "n": 10**9}, 0, thinks=False) == 2_000_000


def test_hidden_thinking_is_plausible() -> None:
    details = {"reasoning_tokens": 5_000}
    found = settled({"prompt_tokens": 9, "completion_tokens": 5_020, "completion_tokens_details": details})
    assert tokens(found) == (9, 5_020, False)


def test_empty_response_may_have_no_tokens() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9}
    assert tokens(settled(usage, facts(characters=0))) == (9, 0, False)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 20, "total_tokens": 50}, (9, 41, False)),
        ({"prompt_tokens": 9, "total_tokens": 29}, (9, 20, False)),
        ({"completion_tokens": 20, "total_tokens": 29}, (9, 20, False)),
        ({"total_tokens": 45}, (45 - GUESS_OUT, GUESS_OUT, True)),
        ({"prompt_tokens": 9, "completion_tokens": 20, "total_tokens": 10**9}, (9, 20, False)),
        ({"prompt_tokens": 9, "completion_tokens": 20, "total_tokens": 3}, (9, 20, False)),
    ],
    ids=["hidden output", "no completion", "no prompt", "alone", "absurd", "too small"],
)
def test_total_completes_missing_parts(usage: object, expected: tuple[int, int, bool]) -> None:
    found = settled(usage)
    assert tokens(found)[:2] == expected[:2]
    assert found.estimated is expected[2]
    assert found.usage.total_tokens == sum(expected[:2])


@pytest.mark.parametrize(
    ("cached", "total", "prompt", "used", "estimated"),
    [
        (8, 30, 10, 8, False),
        (10, 30, 10, 10, False),
        (500, 530, 510, 500, False),  # its total shows that the provider counts cached input separately
        (500, None, 510, 500, False),
        (500, 30, 10, 0, True),  # its total shows that there is no such input
        (10**6, None, 10, 0, True),
    ],
)
def test_cached_input_is_part_of_prompt(
    cached: int, total: int | None, prompt: int, used: int, estimated: bool
) -> None:
    usage = {
        "prompt_tokens": 10, "completion_tokens": 20, "total_tokens": total,
        "prompt_tokens_details": {"cached_tokens": cached},
    }  # fmt: skip
    found = settled(usage)
    assert (found.usage.prompt_tokens, found.usage.cached_tokens, found.estimated) == (prompt, used, estimated)


def test_separately_counted_thinking_is_output() -> None:
    """xAI counts thinking separately from the completion, with and without a total that shows it."""
    apart = {"prompt_tokens": 9, "completion_tokens": 20, "completion_tokens_details": {"reasoning_tokens": 300}}
    assert tokens(settled({**apart, "total_tokens": 329})) == (9, 320, False)
    assert tokens(settled(apart)) == (9, 320, False)
    found = settled({**apart, "total_tokens": 29})
    assert (tokens(found), found.usage.reasoning_tokens) == ((9, 20, False), 20)


def test_incomplete_stream_used_what_arrived() -> None:
    cut = facts(complete=False)
    assert tokens(settled({"input_tokens": 9, "output_tokens": 1}, cut)) == (9, GUESS_OUT, True)
    assert tokens(settled({"prompt_tokens": 9, "completion_tokens": 60}, cut)) == (9, 60, True)
    assert not settled({"input_tokens": 9, "output_tokens": 1}, cut).refused
    assert tokens(settled(None, cut)) == (GUESS_IN, GUESS_OUT, True)


def test_embeddings_have_no_output_tokens() -> None:
    asked = {"input": "Hello there"}
    known = CallFacts(asked, estimate_prompt_tokens(asked), False, 0)
    assert tokens(settled({"prompt_tokens": 3, "total_tokens": 3}, known)) == (3, 0, False)
    assert tokens(settled({"total_tokens": 3}, known)) == (3, 0, False)
    assert tokens(settled({"prompt_tokens": 0, "total_tokens": 0}, known)) == (known.prompt_estimate, 0, True)
    assert tokens(settled({"prompt_tokens": 3, "completion_tokens": 7}, known)) == (3, 0, True)
    assert tokens(settled({"prompt_tokens": 10**9}, known)) == (known.prompt_estimate, 0, True)


def test_running_totals_never_decrease() -> None:
    one = TokenUsage(7, 3, 10, 2).merged(TokenUsage(0, 5, 12, 0)).merged(TokenUsage(9, 1, 0, 4))
    assert one == TokenUsage(9, 5, 12, 4)


@pytest.mark.parametrize("odd", [0, None, 0.0, -3, "5", 10**19, float("nan"), True, [], {}])
def test_later_zero_or_null_counts_are_ignored(odd: object) -> None:
    """Anthropic's message_delta after its message_start (kind 2)."""
    start = {"input_tokens": 25, "output_tokens": 1, "cache_creation": {"ephemeral_1h_input_tokens": 4}}
    later = {"input_tokens": odd, "output_tokens": 7, "cache_creation": {"ephemeral_1h_input_tokens": odd}}
    merged = merged_counts(start, later)
    assert parse_usage(merged) == parse_usage({**start, "output_tokens": 7})


def test_later_usage_of_other_type_is_ignored() -> None:
    odds: list[object] = [None, [], "x", 5]
    for odd in odds:
        assert merged_counts({"input_tokens": 25}, odd) == {"input_tokens": 25}


def test_usage_is_found_in_every_place() -> None:
    counted = {"prompt_tokens": 3, "completion_tokens": 4}
    for body in (
        {"usage": counted}, {"x_groq": {"usage": counted}}, {"choices": [{"usage": counted}]},
        {"usage": {"prompt_tokens": 0}, "x_groq": {"usage": counted}}, {"usage": None, "timings": counted},
        {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4}},
        {"timings": {"prompt_n": 3, "predicted_n": 4}}, {"prompt_eval_count": 3, "eval_count": 4},
        {"meta": {"tokens": {"input_tokens": 3, "output_tokens": 4}}},
    ):  # fmt: skip
        found = read_usage(body)
        assert found is not None, body
        assert (found[1].prompt_tokens, found[1].completion_tokens) == (3, 4), body
    empty: list[dict[str, Any]] = [
        {},
        {"usage": None},
        {"usage": []},
        {"x_groq": 5, "choices": 5, "timings": [], "meta": None},
    ]
    for nothing in empty:
        assert read_usage(nothing) is None


def test_characters_count_content_of_any_shape() -> None:
    """A response may have content that is not one text."""
    forms: list[dict[str, Any]] = [
        {"content": [{"type": "text", "text": "four"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "four"}]}]},
        {"tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "four", "arguments": ""}}]},
        {"function_call": {"name": "fo", "arguments": "ur"}},
        {"audio": {"id": "audio_1", "data": "AAAA", "transcript": "four"}},
        {"tool_calls": [{"function": {"name": "f", "arguments": {"a": "our"}}}]},
    ]
    for message in forms:
        assert ModelResponse(b"", {"choices": [{"message": {"role": "assistant", **message}}]}).characters == 4, message


def test_other_scripts_count_more() -> None:
    text = ModelResponse(b"", {"choices": [{"message": {"content": "你好世界"}}]})
    assert text.characters == 14
    assert estimate_text_tokens(text.characters) == 4


def test_only_numbers_of_usage_are_kept() -> None:
    odd = {
        "prompt_tokens": 3, "half": 0.5, "text": "the prompt", "digits": "500", "nothing": None, "flag": True,
        "large": 10**30, "details": {"cached_tokens": 2, "text": "x"}, "list": [1], "n" * 65: 1, "bad\x00name": 1,
    }  # fmt: skip
    assert number_leaves(odd) == {
        "prompt_tokens": 3, "half": 0.5, "digits": "500", "nothing": None, "flag": True, "large": str(10**30),
        "details": {"cached_tokens": 2},
    }  # fmt: skip
    assert len(number_leaves({str(number): number for number in range(1000)})) == 32
    assert number_leaves(None) == {}


_NUMBERS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just(10**19)
_NAMES = st.sampled_from(
    ["prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "input_tokens", "cache_read_input_tokens"]
)
_DETAILS = st.dictionaries(st.sampled_from(["cached_tokens", "cache_write_tokens", "reasoning_tokens"]), _NUMBERS)


@given(
    st.dictionaries(_NAMES, _NUMBERS),
    _DETAILS,
    st.integers(0, 100_000),
    st.booleans(),
    st.booleans(),
)
def test_any_counts_settle_to_possible_usage(
    usage: dict[str, Any], details: dict[str, Any], characters: int, complete: bool, text: bool
) -> None:
    """The result is above zero if there is content, within the bounds, and no part exceeds its whole."""
    known = CallFacts(HELLO, GUESS_IN, text, characters if text else 0, complete)
    whole = {**usage, "prompt_tokens_details": details, "completion_tokens_details": details}
    found = settle_usage(parse_usage(whole), known).usage
    assert 0 < found.prompt_tokens <= most_prompt_tokens(HELLO, GUESS_IN)
    assert (found.completion_tokens > 0) or not known.characters
    assert found.completion_tokens <= most_output_tokens(HELLO, characters, thinks=True)
    assert found.total_tokens == found.prompt_tokens + found.completion_tokens
    assert 0 <= found.cached_tokens + found.cache_write_tokens <= found.prompt_tokens
    assert 0 <= found.reasoning_tokens <= found.completion_tokens
