"""Characters that reorder text, or that are not shown, are visible in every log line."""

import json
import unicodedata

import orjson
import pytest

from platform_app.llm.providers.error_body import clean
from platform_app.observability.logs.escaping import escape_json, escape_text

HIDDEN = [0xAD, 0x34F, 0x115F, 0x180E, 0x200B, 0x202E, 0x2060, 0x3164, 0xFE0F, 0xFEFF, 0xFFA0, 0xE0041, 0xE01EF]


@pytest.mark.parametrize("code", [0x7F, 0x85, 0x2028, *HIDDEN])
def test_hidden_character_is_escaped_everywhere(code: int) -> None:
    text = f"ab{chr(code)}cd \u00e9\u4e2d\U0001f600"
    shown = escape_text(text)
    assert chr(code) not in shown
    assert shown.startswith("ab\\")
    line = escape_json(orjson.dumps({"text": text}))
    assert chr(code) not in line.decode()
    assert json.loads(line) == {"text": text}
    assert chr(code) not in (clean(text) or "")


def test_shown_text_is_unchanged() -> None:
    text = "Gr\u00fc\u00dfe, \u4e2d\u6587, \u0623\u0647\u0644\u0627, \U0001f600, e\u0301, \u2026"
    assert escape_text(text) == text
    assert json.loads(escape_json(orjson.dumps(text))) == text
    assert escape_json(orjson.dumps(text)) == orjson.dumps(text)


def test_no_format_character_is_left_raw() -> None:
    """Cf without the signs that are shown beside numbers and letters (Unicode 9.2, prepended concatenation marks)."""
    shown = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2}
    shown |= set(range(0x13430, 0x13440))  # they place hieroglyphs
    left = [code for code in range(0x11_0000) if unicodedata.category(chr(code)) == "Cf" and code not in shown]
    assert [hex(code) for code in left if chr(code) in escape_text(chr(code))] == []
