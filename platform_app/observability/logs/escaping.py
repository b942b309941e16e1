"""Escape what a terminal or a log reader would interpret, so that a log line stays one line and shows all its text."""

import re

HIDDEN = (
    r"\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0000-\U000e0fff"
)
"""A part of a character class: DEL and C1, line and paragraph separators, and all characters that reorder text or are
not shown (Unicode's Default_Ignorable_Code_Point), with which a text can carry another one."""
_CONTROL = re.compile(rf"[\x00-\x1f{HIDDEN}]")
_UNSAFE = re.compile(f"[{HIDDEN}]")
"""The same without the characters that JSON escapes by itself."""


def escape_text(text: str) -> str:
    """Return the text with control characters escaped as in a Python literal."""
    return text if text.isascii() and text.isprintable() else _CONTROL.sub(_escape_character, text)


def escape_json(line: bytes) -> bytes:
    """Return a JSON line in which DEL, C1, line separators and hidden characters are escaped too."""
    if line.isascii() and b"\x7f" not in line:
        return line
    return _UNSAFE.sub(_escape_in_json, line.decode()).encode()


def _escape_character(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def _escape_in_json(match: re.Match[str]) -> str:
    """Escape as JSON does, with two escapes for a character outside the basic plane."""
    units = match[0].encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
