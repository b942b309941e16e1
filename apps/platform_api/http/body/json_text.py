"""JSON text as a value, at a bounded cost.

What a body costs is decided by how many values it holds, not by its bytes: ten megabytes of `[],[],` become a quarter
of a gigabyte. So the values of a large body are counted in its text first, in small steps that leave the event loop
free. Parsing is orjson's: strict, and a few milliseconds for what the bound lets through.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from apps.platform_api.http.body.encoding import unreadable
from apps.platform_api.http.body.json_fields import (
    TOO_LONG,
    fields_with,
    fields_with_members,
    has_nul,
    is_half_a_surrogate_pair,
    lost_digits,
)
from platform_app.errors import InvalidRequest, PayloadTooLarge, PlatformError, ValidationFailed

MAX_VALUES = 100_000
UNCOUNTED_BYTES = 128 * 1024
"""A body up to this size cannot hold too many values."""
MAX_MEMBERS = 1000
"""Of one object, in a body that has more than twice as many members in all."""
MAX_DEPTH = 254
"""Of objects and lists inside each other: as deep as the body can be written again."""
NAMED_BYTES = 64 * 1024
"""Up to this size the field is named where the text is no JSON: finding it takes a second parser, and a slow one."""
MAX_BAD_FIELDS = 5
MAX_SPLIT = 200_000

_NOT_STRUCTURE = bytes(set(range(256)) - set(b",[{"))
_LONG = b"0" * 19
"""So many digits in a row, anything longer than 63 bits, are looked at closely."""
_DIGITS = bytes(ord("0") if chr(byte).isdigit() and byte < 128 else ord(" ") for byte in range(256))
_NUL = b"\\u0000"
_INTEGERS = re.compile(rb"(?<![0-9.eE+-])-?[0-9]{19,}+(?![.eE])")
_TEXTS = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


@dataclass(slots=True)
class TextFacts:
    """What is known of a JSON text before it is parsed; collected part by part, since each look at ten megabytes takes
    as long as many requests."""

    values: int = 0
    """Texts (names of members too), and outside of them commas, lists and objects: never less than half of the values
    that the parser will make. Not counted in small bodies."""
    colons: int = 0
    brackets: int = 0
    long_digits: bool = False
    """Digits in a row that could be an integer beyond 64 bits."""
    nul: bool = False
    _in_text: bool = False
    _end: bytes = b""
    """The last bytes of the previous part, since an escape or a number may continue in the next part."""

    def add(self, part: bytes) -> None:
        """Count the next part. This takes a few milliseconds for a few hundred kilobytes."""
        self._count_values(part)
        seam = self._end + part[: len(_LONG)]
        self.colons += part.count(b":")
        self.brackets += part.count(b"{") + part.count(b"[")
        self.nul = self.nul or _NUL in part or _NUL in seam
        self.long_digits = self.long_digits or _LONG in part.translate(_DIGITS) or _LONG in seam.translate(_DIGITS)
        self._end = (seam if len(part) <= len(_LONG) else part)[-len(_LONG) :]

    def _count_values(self, part: bytes) -> None:
        text = self._end[-1:] + part if self._open_escape else part
        odd = (len(text) - len(text.rstrip(b"\\"))) % 2
        self._open_escape = bool(odd)
        if odd:
            text = text[:-1]
        # What is left of escapes holds no quote: first the backslashes that stand for themselves, then the quotes.
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
        quotes = text.count(b'"')
        self.values += (quotes + self._in_text) // 2  # each text where it ends
        if quotes < MAX_SPLIT:  # else there are far too many values already; a list of so many texts is not made
            outside = b"".join(text.split(b'"')[self._in_text :: 2])
            self.values += len(outside.translate(None, _NOT_STRUCTURE))
        self._in_text ^= bool(quotes % 2)

    _open_escape: bool = False
    """The last byte of what was seen is a backslash that escapes the next one."""


def too_many_values(limit: int) -> PayloadTooLarge:
    """For a body that holds more."""
    return PayloadTooLarge(
        f"The body holds more than {limit} JSON values. Send less at once; large lists of numbers can be sent as text."
    )


def parse_json(raw: bytes, facts: TextFacts | None = None) -> Any:
    """Return the value of a JSON text; every part of it can be forwarded unchanged. `facts` are the counts of this
    text, if they are known.

    Raises:
        InvalidRequest: the text is not JSON, or nested too deeply.
        UnsupportedMediaType: it is compressed, or not encoded as UTF-8.
        ValidationFailed: a text holds half of a surrogate pair, a number has more than 64 bits, or an object has too
            many members; each detail names a field.
    """
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _no_json(raw, error) from None
    facts = facts or facts_of(raw)
    if facts.long_digits:
        _refuse_lost_digits(raw, data)
    if facts.colons > 2 * MAX_MEMBERS and (found := next(fields_with_members(MAX_MEMBERS, data), None)) is not None:
        raise ValidationFailed("The request is not valid.", details=[f"{found}: has more than {MAX_MEMBERS} members"])
    if facts.brackets > MAX_DEPTH:
        _require_writable(data)
    return data


def _no_json(raw: bytes, error: orjson.JSONDecodeError) -> PlatformError:
    if (named := unreadable(raw)) is not None:
        return named
    if len(raw) <= NAMED_BYTES:
        try:
            data = json.loads(raw, parse_int=_any_length)
        except (ValueError, RecursionError):
            data = None
        for bad, why in _NOT_JSON:
            if details := _named(data, bad, why):
                return ValidationFailed("The request is not valid.", details=details)
    what = f"{error.msg} (character {error.pos})"
    return InvalidRequest(f"The body is not valid JSON: {what}.", details=[what])


def _is_not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _is_long(value: object) -> bool:
    return isinstance(value, int) and not -(2**63) <= value < 2**64


_NOT_JSON: Sequence[tuple[Callable[[object], bool], str]] = (
    (is_half_a_surrogate_pair, "half of a surrogate pair is not text"),
    (_is_not_finite, "expected a finite number of at most 64 bits"),
    (_is_long, TOO_LONG),
)


def facts_of(raw: bytes) -> TextFacts:
    """Those of a small text, without the number of its values; as `add` finds them, in a third of its time."""
    return TextFacts(
        colons=raw.count(b":"),
        brackets=raw.count(b"{") + raw.count(b"["),
        long_digits=_LONG in raw.translate(_DIGITS),
        nul=_NUL in raw,
    )


def refuse_nul(data: object) -> None:
    """Raises ValidationFailed where a text holds a NUL, which PostgreSQL and most providers do not take."""
    if details := _named(data, has_nul, "a NUL character is not text"):
        raise ValidationFailed("The request is not valid.", details=details)


def _refuse_lost_digits(raw: bytes, data: object) -> None:
    """Only where such a number is in the value is the text searched for its digits: they may be a decimal's."""
    details = _named(data, lost_digits, TOO_LONG)
    if not details:
        return
    if len(raw) > NAMED_BYTES or any(_beyond_64_bits(found[0]) for found in _INTEGERS.finditer(_TEXTS.sub(b'""', raw))):
        raise ValidationFailed("The request is not valid.", details=details)


def _named(data: object, bad: Callable[[object], bool], why: str) -> list[str]:
    return [f"{field}: {why}" for field in islice(fields_with(bad, data), MAX_BAD_FIELDS)]


def _require_writable(data: object) -> None:
    try:
        orjson.dumps(data)
    except orjson.JSONEncodeError:
        raise InvalidRequest(f"The body is nested more than {MAX_DEPTH} levels deep.") from None


def _beyond_64_bits(digits: bytes) -> bool:
    return len(digits) > 20 or not -(2**63) <= int(digits) < 2**64


def _any_length(digits: str) -> int:
    """Python refuses to read thousands of digits."""
    return int(digits) if len(digits) <= 20 else 2**64
