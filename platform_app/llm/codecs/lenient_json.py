"""Read JSON as providers write it.

orjson follows RFC 8259 strictly. Providers send half a surrogate pair if a token ends within an emoji, a byte order
mark, `-Infinity` among log probabilities, or bytes that are not UTF-8. A response must not fail because of them: what
orjson refuses is parsed again by Python's parser, which accepts them.
"""

import json
from math import isfinite
from typing import Any

import orjson

BOM = b"\xef\xbb\xbf"


class Unwritable(ValueError):
    """A value cannot be written as JSON, usually because it is nested too deeply."""


def loads(raw: bytes) -> Any:
    """Return the value. Raises ValueError if the bytes are not JSON, or are nested too deeply."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        try:
            return json.loads(_text(raw), strict=False)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def sendable(raw: bytes) -> bytes:
    """Return the bytes to forward of JSON that `loads` has read: as UTF-8 without a byte order mark, since other bytes
    would break clients."""
    if raw.startswith(BOM):
        return _text(raw).encode()
    try:
        raw.decode()
    except UnicodeDecodeError:
        return _text(raw).encode()
    return raw


def dumps(value: object) -> bytes:
    """Return the value as JSON, with halves of surrogate pairs as escapes, `null` for numbers that JSON does not have,
    and integers of any size. Raises Unwritable if it cannot be written."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        if "surrogates" not in str(error) and "Integer" not in str(error):
            raise Unwritable(str(error)) from None
        try:
            return json.dumps(_finite(value), default=_plain, separators=(",", ":")).encode()
        except (RecursionError, TypeError, ValueError) as problem:
            raise Unwritable(str(problem)) from None


def joined(text: str) -> str:
    """Return the text with halves of surrogate pairs joined, and U+FFFD for a half without the other. A provider sends
    the halves in two parts of a text if a token ends within an emoji."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def _plain(value: object) -> Any:
    if isinstance(value, orjson.Fragment):
        return json.loads(orjson.dumps(value))
    raise TypeError(f"{type(value).__name__} is not JSON")


def _text(raw: bytes) -> str:
    return raw.removeprefix(BOM).decode("utf-8", "replace")
