"""The values of secrets that this process has read: log lines mask them, whatever their form.

`platform_app/credential_forms.py` finds what looks like a key. A pepper, a database password or an Azure key looks like
any other text, and a library can put it into a message. Access lines are not searched: they contain names and numbers
alone.
"""

import re
import threading
from urllib.parse import quote

import orjson

MIN_CHARACTERS = 10
"""A shorter value may be a word that log lines contain for another reason."""
MAX_VALUES = 256
"""Older values are forgotten. Rotations add values, and the number of secrets is the operator's."""
_MASK = b"[masked]"
_PARTS = re.compile(r"[\s,:]+")

_lock = threading.Lock()
_values: dict[bytes, None] = {}
_pattern: re.Pattern[bytes] | None = None


def hide_secret(value: str) -> None:
    """Mask this value, and the long parts of a list such as `1:pepper,2:pepper`, in all lines from now on."""
    global _pattern  # noqa: PLW0603 - the log pipeline of a process is global
    forms: set[bytes] = set()
    for part in {value, *_PARTS.split(value)}:
        if len(part) >= MIN_CHARACTERS:
            forms |= {part.encode(errors="replace"), orjson.dumps(part)[1:-1], quote(part, safe="").encode()}
    with _lock:
        if forms <= _values.keys():
            return
        for form in forms:
            _values[form] = None
        while len(_values) > MAX_VALUES:
            del _values[next(iter(_values))]
        longest_first = sorted(_values, key=len, reverse=True)
        _pattern = re.compile(b"|".join(map(re.escape, longest_first)))


def mask_known_secrets(line: bytes) -> bytes:
    """Return the line without the values of known secrets."""
    pattern = _pattern
    return pattern.sub(_MASK, line) if pattern is not None else line
