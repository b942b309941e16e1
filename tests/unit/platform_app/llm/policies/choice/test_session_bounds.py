"""How much of a conversation identifies its session, and the keys of known conversations."""

from typing import Any

import pytest

from platform_app.llm.policies.choice.session_key import (
    EDGE_CHARACTERS,
    MAX_DEPTH,
    MAX_MESSAGES,
    MAX_TEXTS,
    session_key,
)


def key_of(*parts: object, **body: Any) -> bytes | None:
    return session_key("team", None, {"messages": [{"role": "user", "content": list(parts)}], **body})


@pytest.mark.parametrize(
    ("session", "body", "key"),
    [
        ("s", {}, "604bd24a0b7b27ba003af18833e62aaf"),
        (None, {"prompt_cache_key": "k"}, "812fe6240db0eb18e37a5584fab8155f"),
        (None, {"instructions": "Be kind.", "input": "Hi"}, "dd09be0acb742db1c4675ae835d60fce"),
        (None, {"input": "long " * 300}, "78505ca2e1331915e03dcf36ee6e7c54"),
    ],
)
def test_key_of_a_known_session_never_changes(session: str | None, body: dict[str, Any], key: str) -> None:
    """A change would move every session at once to a route that has not cached its prompt."""
    found = session_key("team", session, body)
    assert found is not None
    assert found.hex() == key


def test_only_the_first_texts_of_a_conversation_count() -> None:
    texts = [str(number) for number in range(MAX_TEXTS)]
    assert key_of(*texts) == key_of(*texts, "more")
    assert key_of(*texts) != key_of(*texts[:-1], "other")
    assert key_of(*texts[:-1]) != key_of(*texts)
    assert key_of(*([None] * (MAX_TEXTS - 1)), "a") is not None
    assert key_of(*([None] * MAX_TEXTS), "a") is None


def test_instructions_and_messages_share_the_bound_of_texts() -> None:
    system = [str(number) for number in range(MAX_TEXTS - 2)]
    assert key_of("a", "b", system=system) != key_of("a", "c", system=system)
    assert key_of("a", "b", "c", system=system) == key_of("a", "b", "d", system=system)
    assert key_of("a", "b", "c", "d", system=system) == key_of("a", "b", system=system)


def test_only_the_first_messages_are_searched() -> None:
    def key(number: int) -> bytes | None:
        messages: list[dict[str, Any]] = [{"role": "system", "content": None}] * 9
        messages[number] = {"role": "system", "content": "Be kind."}
        return session_key("team", None, {"messages": messages})

    assert key(MAX_MESSAGES - 1) is not None
    assert key(MAX_MESSAGES) is None


def test_messages_after_the_first_user_do_not_count() -> None:
    turns: list[object] = ["no object", {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Hi"}]
    key = session_key("team", None, {"messages": turns})
    assert key == session_key("team", None, {"messages": [*turns, {"role": "user", "content": "More"}]})
    assert key == session_key("team", None, {"messages": turns[1:]})
    assert key != session_key("team", None, {"messages": turns[2:]})


def test_only_texts_near_the_surface_count() -> None:
    def nested(depth: int) -> object:
        content: object = "Hi"
        for _ in range(depth):
            content = [content]
        return content

    def key(depth: int) -> bytes | None:
        return session_key(
            "team", None, {"system": nested(depth), "messages": [{"content": {"deep": nested(depth - 1)}}]}
        )

    assert key(MAX_DEPTH) not in (None, session_key("team", None, {"system": "Hi"}))
    assert key(MAX_DEPTH + 1) is None


def test_middle_of_a_text_counts_up_to_twice_the_edge() -> None:
    def key(length: int, middle: str) -> bytes | None:
        return session_key(
            "team", None, {"input": "a" * EDGE_CHARACTERS + middle + "c" * (length - EDGE_CHARACTERS - 1)}
        )

    assert key(2 * EDGE_CHARACTERS, "b") != key(2 * EDGE_CHARACTERS, "x")
    assert key(2 * EDGE_CHARACTERS + 1, "b") == key(2 * EDGE_CHARACTERS + 1, "x")
    assert key(2 * EDGE_CHARACTERS, "b") != key(2 * EDGE_CHARACTERS + 1, "b")


def test_bounds_are_as_documented() -> None:
    assert (EDGE_CHARACTERS, MAX_TEXTS, MAX_MESSAGES, MAX_DEPTH) == (1024, 32, 8, 4)


def test_empty_field_does_not_name_a_session() -> None:
    assert key_of("Hi", prompt_cache_key="") == key_of("Hi", prompt_cache_key=7) == key_of("Hi")
    assert session_key("team", None, {"prompt_cache_key": "k"}, generates=False) is None
