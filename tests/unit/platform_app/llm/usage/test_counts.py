"""The provider's token counts, unexpected shapes included."""

import pytest

from platform_app.llm.usage.counts import TokenUsage, parse_usage


def test_usage_is_parsed() -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
    }
    assert parse_usage(usage) == TokenUsage(9, 3, 12, 4)


@pytest.mark.parametrize("name", ["cache_creation_tokens", "cache_write_tokens"])
def test_cache_writes_are_parsed(name: str) -> None:
    details = {name: 6, "cache_creation_token_details": {"ephemeral_1h_input_tokens": 2}}
    assert parse_usage({"prompt_tokens": 9, "prompt_tokens_details": details}) == TokenUsage(9, 0, 0, 0, 6, 2)


@pytest.mark.parametrize("odd", [None, "9", [], {"ephemeral_1h_input_tokens": "2"}])
def test_invalid_cache_lifetimes_count_as_zero(odd: object) -> None:
    details = {"cache_creation_tokens": 6, "cache_creation_token_details": odd}
    assert parse_usage({"prompt_tokens": 9, "prompt_tokens_details": details}) == TokenUsage(9, 0, 0, 0, 6, 0)


@pytest.mark.parametrize("usage", [None, [], "12", 12, True])
def test_missing_usage_returns_none(usage: object) -> None:
    assert parse_usage(usage) is None


@pytest.mark.parametrize("odd", [None, "9", 9.5, -1, [9], {"n": 9}, True, float("nan"), float("inf"), 2**63, 1e19])
def test_invalid_members_count_as_zero(odd: object) -> None:
    usage = parse_usage({"prompt_tokens": odd, "total_tokens": 2, "prompt_tokens_details": {"cached_tokens": odd}})
    assert usage == TokenUsage(0, 0, 2, 0)
    assert usage is not None
    assert [type(value) for value in (usage.prompt_tokens, usage.cached_tokens)] == [int, int]


@pytest.mark.parametrize("details", [None, [], "x", 5])
def test_invalid_details_count_as_zero(details: object) -> None:
    assert parse_usage({"prompt_tokens": 1, "prompt_tokens_details": details}) == TokenUsage(1, 0, 0, 0)
