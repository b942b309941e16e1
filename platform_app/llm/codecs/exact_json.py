"""Numbers in JSON as they are written: parsers round integers beyond 64 bits, and spell decimals in their own way.

Slow, and only asked for where a text holds such a number: the digits of one may be an order number or an account.
"""

import json
import re
from typing import Any

import orjson

from platform_app.llm.codecs import lenient_json

_MAY_LOSE = re.compile(rb"[0-9]{16}|[0-9][.eE]")


class _Literal(str):
    """A number's text."""

    __slots__ = ()


def is_json_object(text: str) -> bool:
    """Whether it is a JSON object that can be sent on as it is, with numbers of any size."""
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        pass
    try:  # orjson refuses numbers beyond the range of floating point, which JSON allows
        text.encode()
        return isinstance(json.loads(text, parse_int=_Literal, parse_float=_Literal, parse_constant=_refuse), dict)
    except (ValueError, RecursionError):
        return False


def may_lose_digits(raw: bytes) -> bool:
    """Whether the text may hold a number that a parser and a writer would change; also true of some texts in it."""
    return _MAY_LOSE.search(raw) is not None


def parse_exactly(raw: bytes) -> Any:
    """The value of a text that a parser has read already, its numbers for `written_exactly` alone. None where it is
    nested too deeply for that."""
    try:
        text = raw.removeprefix(lenient_json.BOM).decode("utf-8", "replace")
        return json.loads(text, strict=False, parse_int=_Literal, parse_float=_Literal)
    except (ValueError, RecursionError):
        return None


def written_exactly(value: object) -> str | None:
    """A part of such a value as compact JSON; None where it is nested too deeply for that."""
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
