"""Keep numbers in JSON as they are written: parsers round integers beyond 64 bits, and rewrite decimals.

It is slow, so it is used only if a text has such a number. Its digits may be an order number or an account.
"""

import json
import re
from typing import Any

import orjson

from platform_app.llm.codecs import lenient_json

MAX_EXACT_VALUES = 100_000
_MAY_LOSE = re.compile(rb"[0-9]{16}|[0-9][.eE]")


class _Literal(str):
    """The text of a number."""

    __slots__ = ()


def is_json_object(text: str) -> bool:
    """Return whether the text is a JSON object that can be forwarded, with numbers of any size. Halves of surrogate
    pairs count as `lenient_json.joined` writes them."""
    text = lenient_json.joined(text)
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        pass
    try:  # orjson refuses numbers beyond the range of floats, which JSON allows
        return isinstance(json.loads(text, parse_int=_Literal, parse_float=_Literal, parse_constant=_refuse), dict)
    except (ValueError, RecursionError):
        return False


def may_lose_digits(raw: bytes) -> bool:
    """Return whether the text may have a number that parsing and writing would change. Strings with digits match too. A
    text with too many values is not worth the time and the memory: its numbers are written as they were parsed."""
    return _MAY_LOSE.search(raw) is not None and raw.count(b",") <= MAX_EXACT_VALUES


def parse_exactly(raw: bytes) -> Any:
    """Parse a text that another parser has already accepted, with numbers that only `written_exactly` can write. Return
    None if it is nested too deeply."""
    try:
        text = raw.removeprefix(lenient_json.BOM).decode("utf-8", "replace")
        return json.loads(text, strict=False, parse_int=_Literal, parse_float=_Literal)
    except (ValueError, RecursionError):
        return None


def written_exactly(value: object) -> str | None:
    """Write a part of such a value as compact JSON. Return None if it is nested too deeply."""
    try:
        return _exact(value)
    except RecursionError:
        return None


def _exact(value: object) -> str:
    if isinstance(value, _Literal):
        return str(value)
    if isinstance(value, dict):
        members = (f"{_written(name)}:{_exact(each)}" for name, each in value.items())
        return f"{{{','.join(members)}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_exact, value))}]"
    return _written(value)


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _written(value: object) -> str:
    return lenient_json.dumps(value).decode()
