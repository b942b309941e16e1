"""Escape what a terminal or a log reader would interpret, so that a log line stays one line and shows all its text."""

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")
"""C0, DEL and C1, line and paragraph separators, marks that reorder or hide text (Unicode TR 36)."""
_UNSAFE_BYTES = re.compile(
    rb"\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8b-\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf|\xef\xbf[\xb9-\xbb]"
)
"""The same in UTF-8, without the characters that JSON escapes by itself."""


def escape_text(text: str) -> str:
    """Return the text with control characters escaped as in a Python literal."""
    return text if text.isprintable() else _CONTROL.sub(_escape_character, text)


def escape_json(line: bytes) -> bytes:
    """Return a JSON line in which DEL, C1, line separators and bidirectional marks are escaped too."""
    return line if line.isascii() and b"\x7f" not in line else _UNSAFE_BYTES.sub(_escape_bytes, line)


def _escape_character(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def _escape_bytes(match: re.Match[bytes]) -> bytes:
    """Escape as JSON does for characters of the basic plane, to which all of these belong."""
    return "".join(f"\\u{ord(each):04x}" for each in match[0].decode()).encode()
