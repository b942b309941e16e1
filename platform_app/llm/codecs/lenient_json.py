"""Read JSON as providers write it.

orjson takes RFC 8259 at its strictest. Providers send half a surrogate pair where a token ends within an emoji, a byte
order mark, `-Infinity` among log probabilities, or bytes that are not UTF-8. None of these is a reason to fail a
response: what orjson refuses is read again by Python's parser, which takes them.
"""

import json
from typing import Any

import orjson

BOM = b"\xef\xbb\xbf"


def loads(raw: bytes) -> Any:
    """Return the value. Raises ValueError where the bytes are no JSON, or are nested too deeply."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        try:
            return json.loads(_text(raw), strict=False)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def sendable(raw: bytes) -> bytes:
    """Return JSON that `loads` has read as the bytes to pass on: the same, but as UTF-8 and without a byte order mark.
    A client that reads text would fail at anything else."""
    if raw.startswith(BOM):
        return _text(raw).encode()
    try:
        raw.decode()
    except UnicodeDecodeError:
        return _text(raw).encode()
    return raw


def dumps(value: object) -> bytes:
    """Return the value as JSON, halves of surrogate pairs as escapes. Raises ValueError where it cannot be written."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        if "surrogates" not in str(error):
            raise ValueError(str(error)) from None
        try:
            return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
        except (RecursionError, TypeError) as problem:
            raise ValueError(str(problem)) from None


def _text(raw: bytes) -> str:
    return raw.removeprefix(BOM).decode("utf-8", "replace")
