"""What comes back from a provider, odd shapes among it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from platform_app.llm.types import ChatChunk, ChatCompletion, TokenUsage, parse_usage


def test_usage() -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
    }
    assert parse_usage(usage) == TokenUsage(9, 3, 12, 4)


@pytest.mark.parametrize("usage", [None, [], "12", 12, True])
def test_no_usage(usage: object) -> None:
    assert parse_usage(usage) is None


@pytest.mark.parametrize("odd", [None, "9", 9.0, -1, [9], {"n": 9}, True, float("nan")])
def test_odd_members_count_as_nothing(odd: object) -> None:
    usage = parse_usage({"prompt_tokens": odd, "total_tokens": 2, "prompt_tokens_details": {"cached_tokens": odd}})
    assert usage == TokenUsage(0, 0, 2, 0)
    assert usage is not None
    assert [type(value) for value in (usage.prompt_tokens, usage.cached_tokens)] == [int, int]


@pytest.mark.parametrize("details", [None, [], "x", 5])
def test_odd_details_count_as_nothing(details: object) -> None:
    assert parse_usage({"prompt_tokens": 1, "prompt_tokens_details": details}) == TokenUsage(1, 0, 0, 0)


def test_a_completion() -> None:
    message = {"role": "assistant", "content": "hi"}
    completion = ChatCompletion(b"raw", {"id": "c1", "choices": [{"message": message, "finish_reason": "stop"}]})
    assert (completion.id, completion.message, completion.finish_reason, completion.usage) == (
        "c1", message, "stop", None,
    )  # fmt: skip


def test_a_completions_odd_members_are_absent() -> None:
    completion = ChatCompletion(b"raw", {"id": 5, "choices": [{"message": {}, "finish_reason": 1}], "usage": "none"})
    assert (completion.id, completion.finish_reason, completion.usage) == (None, None, None)


def test_a_chunk() -> None:
    chunk = ChatChunk(b"", {"id": "c1", "choices": [{"delta": {"content": "h"}, "finish_reason": "stop"}], "usage": {}})
    assert (chunk.id, chunk.delta, chunk.finish_reason, chunk.usage) == ("c1", {"content": "h"}, "stop", TokenUsage())


@pytest.mark.parametrize(
    "choices", [None, [], {}, "x", [None], [[]], ["x"], [{}], [{"delta": None}], [{"delta": "text"}], [{"delta": []}]]
)
def test_a_chunk_without_a_usable_choice(choices: Any) -> None:
    chunk = ChatChunk(b"", {"choices": choices})
    assert (dict(chunk.delta), chunk.finish_reason) == ({}, None)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "choices", "delta", "finish_reason", "usage", "prompt_tokens", "total_tokens"]),
            inner,
        )
    ),
)


@given(st.dictionaries(st.sampled_from(["id", "choices", "usage"]), _JSON))
def test_no_chunk_raises(body: dict[str, Any]) -> None:
    chunk = ChatChunk(b"", body)
    assert chunk.id is None or isinstance(chunk.id, str)
    assert isinstance(chunk.delta, dict)
    assert chunk.finish_reason is None or isinstance(chunk.finish_reason, str)
    assert chunk.usage is None or chunk.usage.total_tokens >= 0
