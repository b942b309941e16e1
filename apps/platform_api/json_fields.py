"""Where in a JSON text something is that cannot be passed on: found by field, when it is already known to be there."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

TOO_LONG = "expected a number of at most 64 bits; send longer ones as text"
_DIGITS = bytes(ord("0") if chr(byte).isdigit() and byte < 128 else ord(" ") for byte in range(256))
_LONG = b"0" * 19
"""So many digits in a row, anything longer than 63 bits, are looked at closely. Made to be found fast: a regular
expression takes longer than the parsing."""
_TEXTS = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_INTEGERS = re.compile(rb"(?<![0-9.eE+-])-?[0-9]{19,}+(?![.eE])")
_SURROGATE = re.compile("[\ud800-\udfff]")


def fields_with(bad: Callable[[object], bool], raw: bytes, root: str = "body") -> Iterator[str]:
    """The paths (`messages[0].content`) of the values and the objects with keys that are `bad`, in order.

    Reads with Python's parser, which is slow and lets more through than others. Nothing where the text is no JSON.
    """
    try:
        data = json.loads(raw, parse_int=_integer)
    except (ValueError, RecursionError):
        return
    stack: list[tuple[str, Any]] = [(root, data)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, list):
            stack.extend((f"{path}[{index}]", item) for index, item in reversed(list(enumerate(value))))
        elif isinstance(value, dict):
            if any(bad(key) for key in value):
                yield path
            stack.extend(
                (key if path == root else f"{path}.{key}", item)
                for key, item in reversed(list(value.items()))
                if not bad(key)  # a path through it could not be told
            )
        elif bad(value):
            yield path


def has_long_integer(raw: bytes) -> bool:
    """Whether a JSON text holds an integer beyond 64 bits, outside of its texts. Never walks the body: nearly none has
    so many digits in a row, and where they are in a text, that is seen without parsing."""
    if _LONG not in raw.translate(_DIGITS):
        return False
    return any(is_beyond_64_bits(_integer(found[0])) for found in _INTEGERS.finditer(_TEXTS.sub(b"", raw)))


def is_half_a_surrogate_pair(value: object) -> bool:
    """Whether it is a text that UTF-8 cannot hold."""
    return isinstance(value, str) and _SURROGATE.search(value) is not None


def is_beyond_64_bits(value: object) -> bool:
    """Whether it is an integer that most parsers take for a floating-point number, losing digits."""
    return isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64


def _integer(digits: str | bytes) -> int:
    """Any number of digits, since Python would refuse to read thousands."""
    return int(digits) if len(digits) <= 20 else 2**64
