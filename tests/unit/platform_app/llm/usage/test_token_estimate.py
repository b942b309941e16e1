"""Estimates: too high rather than too low, and never an exception."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.llm.usage.token_estimate import (
    IMAGE_TOKENS,
    LOW_DETAIL_IMAGE_TOKENS,
    MESSAGE_TOKENS,
    estimate_prompt_tokens,
    estimate_text_tokens,
    requested_output_tokens,
)

PROSE = [
    "The quick brown fox jumps over the lazy dog.",
    "A limit must hold for every window of its length, over all processes.",
    "Streams end, clients leave, and what was reserved comes back.",
]


def user(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize("text", PROSE)
def test_prose_is_not_underestimated(text: str) -> None:
    """Common English words and punctuation marks are one token each."""
    counted = len(re.findall(r"\w+|[^\w\s]", text))
    assert counted <= estimate_prompt_tokens(user(text)) - MESSAGE_TOKENS <= 2 * counted


@pytest.mark.parametrize("text", ["こんにちは世界", "Привет, мир", "🙂🙃"])
def test_other_scripts_count_by_character(text: str) -> None:
    letters = sum(not character.isascii() for character in text)
    assert estimate_prompt_tokens(user(text)) - MESSAGE_TOKENS >= letters


@pytest.mark.parametrize(("characters", "tokens"), [(0, 0), (1, 1), (3, 1), (4, 2), (7, 2), (35, 10), (3500, 1000)])
def test_latin_characters_become_tokens(characters: int, tokens: int) -> None:
    assert estimate_text_tokens(characters) == tokens


def test_messages_are_summed() -> None:
    one = estimate_prompt_tokens(user("x" * 350))
    assert one == 100 + MESSAGE_TOKENS
    assert estimate_prompt_tokens({"messages": user("x" * 350)["messages"] * 3}) == 3 * one


def test_parts_count_by_type() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    low = {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}}
    text = {"type": "text", "text": "x" * 35}
    assert estimate_prompt_tokens(user([image])) == IMAGE_TOKENS + MESSAGE_TOKENS
    assert estimate_prompt_tokens(user([low, text])) == LOW_DETAIL_IMAGE_TOKENS + 10 + MESSAGE_TOKENS
    audio = {"type": "input_audio", "input_audio": {"data": "A" * 64_000, "format": "wav"}}
    assert 10 <= estimate_prompt_tokens(user([audio])) <= 100


def test_tools_and_tool_calls_are_counted() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "d" * 350}}]
    assert estimate_prompt_tokens({**user("x"), "tools": tools}) > estimate_prompt_tokens(user("x")) + 100
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"arguments": "a" * 350}}]}
    assert estimate_prompt_tokens({"messages": [call]}) > 100


@pytest.mark.parametrize(
    ("given_input", "tokens"), [("x" * 35, 10), (["x" * 35, "y" * 35], 20), ([1, 2, 3], 3), ([[1, 2], [3]], 3)]
)
def test_embeddings_input_is_counted(given_input: Any, tokens: int) -> None:
    assert estimate_prompt_tokens({"input": given_input}) == tokens


def test_every_format_is_counted() -> None:
    """The same prompt in each format costs about the same."""
    text = "x" * 350
    image = "i" * 100_000
    chat = {
        "messages": [
            {"role": "system", "content": text},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": text},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}},
                ],
            },
        ]
    }
    responses = {
        "instructions": text,
        "input": [
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": text},
                    {"type": "input_image", "image_url": f"data:image/png;base64,{image}"},
                ],
            }
        ],
    }
    source = {"type": "base64", "media_type": "image/png", "data": image}
    messages = {
        "system": [{"type": "text", "text": text}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": source}]},
                    {"type": "text", "text": text},
                ],
            }
        ],
    }
    expected = estimate_prompt_tokens(chat)
    assert expected == 2 * 100 + IMAGE_TOKENS + 2 * MESSAGE_TOKENS
    for body in (responses, messages):
        assert expected <= estimate_prompt_tokens(body) <= expected + 5


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, 1000),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7, "max_tokens": 5}, 7),
        ({"max_tokens": 5, "n": 3}, 15),
        ({"n": 2}, 2000),
        ({"max_tokens": None}, 1000),
        ({"max_tokens": True, "n": "3"}, 1000),
        ({"max_tokens": -5}, 1000),
        ({"max_completion_tokens": 1, "max_tokens": 100_000}, 100_000),
        ({"max_output_tokens": 9}, 1000),  # no provider of chats reads it
        ({"max_output_tokens": 9, "max_tokens": 5}, 5),
    ],
)
def test_output_limit_is_read_from_request(fields: dict[str, Any], tokens: int) -> None:
    assert requested_output_tokens({**user("x"), **fields}, 1000) == tokens


def test_output_limit_of_responses_is_read() -> None:
    assert requested_output_tokens({"input": "x", "max_output_tokens": 9}, 1000) == 9
    assert requested_output_tokens({"input": "x", "max_output_tokens": 1, "max_tokens": 9}, 1000) == 9


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["messages", "input", "tools", "max_tokens", "n", "response_format"]), JSON))
def test_any_body_has_an_estimate(body: dict[str, Any]) -> None:
    assert estimate_prompt_tokens(body) >= 0
    assert requested_output_tokens(body, 10) >= 0


@given(st.text())
def test_longer_text_never_counts_less(text: str) -> None:
    assert estimate_prompt_tokens(user(text + "x")) >= estimate_prompt_tokens(user(text))
