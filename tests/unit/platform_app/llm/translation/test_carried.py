"""Thinking blocks and reasoning items in fields of another format."""

import pytest

from platform_app.llm.translation.carried import (
    carried_reasoning,
    carried_thinking,
    carry_reasoning,
    carry_thinking,
    is_carried,
)

_BLOCKS = [
    {"type": "thinking", "thinking": "Hm, 😀?", "signature": "c2ln+/=="},
    {"type": "redacted_thinking", "data": "x"},
]
_ITEM = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}


def test_thinking_blocks_survive_encrypted_content() -> None:
    text = carry_thinking(_BLOCKS)

    assert text.startswith("fbt1.")
    assert is_carried(text)
    assert carried_thinking(text) == _BLOCKS
    assert carried_reasoning(text) is None


def test_reasoning_item_survives_signature() -> None:
    text = carry_reasoning(_ITEM)

    assert text.startswith("fbr1.")
    assert carried_reasoning(text) == _ITEM
    assert carried_thinking(text) is None


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "gAAA",
        "fbt1.",
        "fbt1.!",
        "fbt1.e30",
        "fbt1.WzFd",
        "fbt1.é",
        "fbr1.W10",
        "fbr1.x",
        "fbr1._w",
        "fbt1.W3t9LDFd",
        "fbt1.W3!t9XQ",
        "fbt1.W3!!!!t9XQ",
        "fbt1.W3t9XQ\n\n\n\n",
    ],
)
def test_foreign_text_carries_nothing(text: object) -> None:
    """A client may send any text, cut off or from another provider."""
    assert carried_thinking(text) is None
    assert carried_reasoning(text) is None


@pytest.mark.parametrize(
    ("text", "carried"), [("fbt1.", True), ("fbr1.W10", True), ("gAAA", False), ("", False), (7, False)]
)
def test_only_the_gateways_prefixes_mark_carried_text(text: object, carried: bool) -> None:
    assert is_carried(text) is carried


@pytest.mark.parametrize("length", range(8))
def test_carried_objects_of_any_length_survive(length: int) -> None:
    """The base64 has no padding."""
    blocks = [{"type": "redacted_thinking", "data": "x" * length}]
    assert carried_thinking(carry_thinking(blocks)) == blocks
    assert carried_reasoning(carry_reasoning(blocks[0])) == blocks[0]
