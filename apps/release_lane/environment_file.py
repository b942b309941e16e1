"""Read a file of NAME=VALUE lines as systemd's EnvironmentFile does (systemd.exec(5))."""

import re
from pathlib import Path

from apps.release_lane.errors import UsageError

_START = re.compile(r"\s*(?:[#;][^\n]*|(?P<name>[^=\n]*)=|[^\n]*)")
"""A comment, a name, or a line without one, which is ignored."""
_SINGLE = re.compile(r"[ \t]*'([^']*)(?:'|\Z)")
_DOUBLE = re.compile(r'[ \t]*"((?:[^"\\]|\\.)*)(?:"|\\?\Z)', re.DOTALL)
_PLAIN = re.compile(r"[ \t]*((?:[^\n\\]|\\.)*)\\?", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_environment(path: Path) -> dict[str, str]:
    """Read a file of settings.

    Raises:
        UsageError: the file cannot be read, or is not UTF-8.
    """
    try:
        text = path.read_text("utf-8-sig")  # an editor's byte order mark is not part of the first name
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; lane.toml names it") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (byte {error.start}); lane.toml names it") from None
    return parse_environment(text)


def parse_environment(text: str) -> dict[str, str]:
    """Return the variables: comments, quotes, escaped characters and continued lines are read as systemd does."""
    text = re.sub(r"\r\n?", "\n", text)
    found, position = {}, 0
    while position < len(text):
        start = _START.match(text, position)
        assert start is not None  # noqa: S101 - the expression matches every text
        position = start.end()
        if start["name"] is None:
            continue
        value, position = _value(text, position)
        name = start["name"].strip()
        if _NAME.fullmatch(name):
            found[name] = value
    return found


def _value(text: str, position: int) -> tuple[str, int]:
    """Return a value and where it ends: quoted parts, then the rest of the line."""
    parts = []
    while True:
        if (part := _SINGLE.match(text, position)) is not None:
            parts.append(part[1])
        elif (part := _DOUBLE.match(text, position)) is not None:
            parts.append(_ESCAPED.sub(_in_double_quotes, part[1]))
        else:
            break
        position = part.end()
    plain = _PLAIN.match(text, position)
    assert plain is not None  # noqa: S101 - the expression matches every text
    parts.append(_ESCAPED.sub(_unquoted, plain[1]).rstrip(" \t"))
    return "".join(parts), plain.end()


def _in_double_quotes(escaped: re.Match[str]) -> str:
    if escaped[1] == "\n":
        return ""
    return escaped[1] if escaped[1] in '"\\`$' else escaped[0]


def _unquoted(escaped: re.Match[str]) -> str:
    return "" if escaped[1] == "\n" else escaped[1]
