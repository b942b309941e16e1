"""Responses of providers, unexpected shapes included."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.llm.responses import ChatChunk, ModelResponse
from platform_app.llm.usage.counts import TokenUsage


def test_completion_has_message_and_usage() -> None:
    message = {"role": "assistant", "content": "hi"}
    completion = ModelResponse(b"raw", {"id": "c1", "choices": [{"message": message, "finish_reason": "stop"}]})
    assert (completion.id, completion.message, completion.finish_reason, completion.usage) == (
        "c1", message, "stop", None,
    )  # fmt: skip


def test_unexpected_members_of_completion_are_none() -> None:
    completion = ModelResponse(b"raw", {"id": 5, "choices": [{"message": {}, "finish_reason": 1}], "usage": "none"})
    assert (completion.id, completion.finish_reason, completion.usage) == (None, None, None)


def test_chunk_has_delta_and_usage() -> None:
    chunk = ChatChunk(b"", {"id": "c1", "choices": [{"delta": {"content": "h"}, "finish_reason": "stop"}], "usage": {}})
    assert (chunk.id, chunk.delta, chunk.finish_reason, chunk.usage) == ("c1", {"content": "h"}, "stop", TokenUsage())


@pytest.mark.parametrize(
    "choices", [None, [], {}, "x", [None], [[]], ["x"], [{}], [{"delta": None}], [{"delta": "text"}], [{"delta": []}]]
)
def test_chunk_without_valid_choice_is_empty(choices: Any) -> None:
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


@pytest.mark.parametrize(
    ("made", "characters"),
    [
        ({"content": "four"}, 4),
        ({"content": None, "reasoning_content": "ab", "refusal": "c"}, 3),
        (
            {
                "tool_calls": [
                    {"function": {"arguments": "{}"}},
                    {"function": None},
                    5,
                    {"function": {"arguments": None}},
                ]
            },
            2,
        ),
        ({"content": 5, "tool_calls": {}}, 0),
        (None, 0),
        ([], 0),
    ],
)
def test_characters_count_generated_content(made: Any, characters: int) -> None:
    assert ChatChunk(b"", {"choices": [{"delta": made}, {"delta": made}]}).characters == 2 * characters
    assert ModelResponse(b"", {"choices": [{"message": made}]}).characters == characters
    assert ModelResponse(b"", {"data": []}).characters == 0


@given(st.dictionaries(st.sampled_from(["id", "choices", "usage"]), _JSON))
def test_any_chunk_is_read_without_error(body: dict[str, Any]) -> None:
    chunk = ChatChunk(b"", body)
    assert chunk.id is None or isinstance(chunk.id, str)
    assert isinstance(chunk.delta, dict)
    assert chunk.finish_reason is None or isinstance(chunk.finish_reason, str)
    assert chunk.usage is None or chunk.usage.total_tokens >= 0
    assert chunk.characters >= 0
