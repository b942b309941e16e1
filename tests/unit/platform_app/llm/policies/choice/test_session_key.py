"""What the turns of one session have in common, in each of the three formats."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.llm.policies.choice.session_key import EDGE_CHARACTERS, session_key

TURNS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "chat": (
        {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]},
        {
            "messages": [
                {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
                {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                {"role": "assistant", "content": "Hello"},
                {"role": "user", "content": "More"},
            ]
        },
    ),
    "responses": (
        {"instructions": "Be kind.", "input": "Hi"},
        {
            "instructions": "Be kind.",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
                {"type": "reasoning", "id": "rs_1", "summary": []},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            ],
        },
    ),
    "messages": (
        {
            "system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]}
            ],
        },
        {
            "system": "Be kind.",
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "x", "signature": "y"}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "3"}]},
            ],
        },
    ),
}


@pytest.mark.parametrize("format_name", TURNS)
def test_turns_of_one_conversation_share_a_key(format_name: str) -> None:
    """A marker that moves, and a text that becomes a part, are no other session."""
    first, later = TURNS[format_name]
    assert session_key("o", None, first) == session_key("o", None, later) is not None


@pytest.mark.parametrize(
    "other",
    [
        {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Ho"}]},
        {"messages": [{"role": "system", "content": "Be rude."}, {"role": "user", "content": "Hi"}]},
        {"messages": [{"role": "system", "content": "Be kind.Hi"}, {"role": "user", "content": ""}]},
        {"prompt_cache_key": "k", **TURNS["chat"][0]},
    ],
)
def test_other_beginnings_have_other_keys(other: dict[str, Any]) -> None:
    assert session_key("o", None, other) != session_key("o", None, TURNS["chat"][0])


def test_header_precedes_field_and_field_precedes_content() -> None:
    first, later = ({**turn, "prompt_cache_key": "k"} for turn in TURNS["chat"])
    other = {"prompt_cache_key": "k", "messages": [{"role": "user", "content": "different"}]}
    assert session_key("o", "s", first) == session_key("o", "s", {}) != session_key("o", None, first)
    assert session_key("o", None, first) == session_key("o", None, later) == session_key("o", None, other)
    assert session_key("o", "k", {}) != session_key("o", None, {"prompt_cache_key": "k"})


@given(st.text(max_size=20), st.text(max_size=20), st.none() | st.text(min_size=1, max_size=9))
def test_owners_never_share_a_key(one: str, other: str, session: str | None) -> None:
    body = TURNS["chat"][0]
    assert (session_key(one, session, body) == session_key(other, session, body)) == (one == other)


def test_middle_of_a_long_text_is_not_hashed_but_its_length_is() -> None:
    long = "a" * EDGE_CHARACTERS + "b" * 99 + "c" * EDGE_CHARACTERS
    keys = [session_key("o", None, {"input": text}) for text in (long, long.replace("b", "x"), "a" + long)]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("body", [{}, {"messages": []}, {"messages": 1}, {"input": ""}, {"input": [1, None, {}]}])
def test_request_without_text_has_no_session(body: dict[str, Any]) -> None:
    assert session_key("o", None, body) is None


def test_embeddings_have_only_named_sessions() -> None:
    body = {"input": "a text", "prompt_cache_key": "k"}
    assert session_key("o", None, body, generates=False) is None
    assert session_key("o", "s", body, generates=False) == session_key("o", "s", {})


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("system", "instructions", "messages", "input"), json_values)))
def test_any_body_has_a_stable_key_or_none(body: dict[str, Any]) -> None:
    """Also bodies that a provider would refuse, texts with lone surrogates included."""
    assert session_key("o", None, body) == session_key("o", None, dict(body))
