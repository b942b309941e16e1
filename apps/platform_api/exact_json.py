"""JSON that is passed on: read only where writing it again would say the same.

The parser is quicker than it is exact: it makes floats of integers beyond 64 bits, and reads deeper nesting than it
writes. What would not arrive as it was sent is refused, by name.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from platform_app.errors import InvalidRequest

MAX_DEPTH = 254
"""Levels of lists and objects: what orjson writes."""

TOO_LONG = "integers of more than 64 bits cannot be passed on exactly; send a smaller one, or a text"
_DIGITS = bytes(0x30 if 0x30 <= byte <= 0x39 else 0x20 for byte in range(256))
_LONG = b"0" * 19  # the shortest integer beyond 63 bits
_NOT_A_LONG_INTEGER = re.compile(
    rb"""(?: [^"0-9]++
           | "(?:[^"\\]++|\\.)*+"
           | [0-9]{1,18}+(?![0-9.eE])
           | [0-9]++\.[0-9]++(?:[eE][+-]?[0-9]++)?+
           | [0-9]++[eE][+-]?[0-9]++
         )*+""",
    re.VERBOSE | re.DOTALL,
)
_INTEGER = re.compile(rb"[0-9]++")
_SURROGATE = re.compile("[\ud800-\udfff]")
_MOST_NODES = 200_000
"""How far a name is searched for: a refusal may cost no more than an answer."""


def read_exactly(raw: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        InvalidRequest: it is not JSON, nested too deeply, or holds an integer of more than 64 bits or half of a
            surrogate pair, whose field `param` names.
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if b"\\ud" in raw.lower():
            _refuse(raw, _is_half_a_pair, "half of a surrogate pair is not text")
        raise InvalidRequest(f"The body is not valid JSON: {error.msg} at byte {error.pos}.") from None
    _require_writable(value)
    if has_long_integer(raw):
        _refuse(raw, is_long_integer, TOO_LONG)
        raise InvalidRequest(f"The body: {TOO_LONG}.")
    return value


def has_long_integer(raw: bytes) -> bool:
    """Whether an integer of this JSON text has more than 64 bits."""
    # Nearly no body has such a run of digits anywhere; only then is it worth telling numbers from texts.
    return _LONG in raw.translate(_DIGITS) and _finds_long_integer(raw)


def is_long_integer(value: object) -> bool:
    """Whether this is an integer of more than 64 bits."""
    return type(value) is int and not -(2**63) <= value < 2**64


def paths_where(wrong: Callable[[object], bool], data: object, most_nodes: int | None = None) -> Iterator[str]:
    """The fields whose value is wrong, or whose name is not to be told: `messages[0].content`, `body` for the root."""
    stack, seen = [("body", data)], 0
    while stack:
        path, value = stack.pop()
        seen += 1
        if most_nodes is not None and seen > most_nodes:
            return
        if isinstance(value, list):
            stack.extend((f"{path}[{index}]", item) for index, item in reversed(list(enumerate(value))))
        elif isinstance(value, dict):
            if any(wrong(key) for key in value):
                yield path
            stack.extend(
                (key if path == "body" else f"{path}.{key}", item)
                for key, item in reversed(value.items())
                if not wrong(key)  # a path through it could not be told
            )
        elif wrong(value):
            yield path


def _require_writable(value: object) -> None:
    """By writing it, which takes less time than counting brackets."""
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        raise InvalidRequest(f"The body is nested too deeply: more than {MAX_DEPTH} levels.") from None


def _finds_long_integer(raw: bytes) -> bool:
    at = 0
    while True:
        skipped = _NOT_A_LONG_INTEGER.match(raw, at)
        integer = _INTEGER.match(raw, skipped.end()) if skipped else None
        if integer is None:
            return False
        most = 2**63 if raw[integer.start() - 1 : integer.start()] == b"-" else 2**64 - 1
        if len(integer[0]) > 20 or int(integer[0]) > most:
            return True
        at = integer.end()


def _refuse(raw: bytes, wrong: Callable[[object], bool], why: str) -> None:
    """Raise InvalidRequest with the name of the first field that is wrong, if it is found."""
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        return
    for field in paths_where(wrong, data, _MOST_NODES):
        raise InvalidRequest(f"{field}: {why}.", param=field)


def _is_half_a_pair(value: object) -> bool:
    return isinstance(value, str) and _SURROGATE.search(value) is not None
