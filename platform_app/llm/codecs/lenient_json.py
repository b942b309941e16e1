"""Read JSON as providers write it.

orjson follows RFC 8259 strictly. Providers send half a surrogate pair if a token ends within an emoji, a byte order
mark, `-Infinity` among log probabilities, or bytes that are not UTF-8. A response must not fail because of them: what
orjson refuses is parsed again by Python's parser, which accepts them.
"""

import json
from typing import Any

import orjson

BOM = b"\xef\xbb\xbf"


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
    """Return the value as JSON, with halves of surrogate pairs as escapes. Raises ValueError if it cannot be
    written."""
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
