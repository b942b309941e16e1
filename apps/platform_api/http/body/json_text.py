"""Parse JSON text at a bounded cost.

The number of values in a body decides its cost, not its bytes: ten megabytes of `[],[],` need 250 megabytes of memory.
So the values of a large body are first counted in its text, in small steps between which the event loop runs. orjson
then parses the text strictly, in a few milliseconds for a body within the limit.
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
from platform_app.llm.codecs.value_count import ValueCount

MAX_VALUES = 100_000
UNCOUNTED_BYTES = 128 * 1024
"""A body up to this size cannot contain too many values, so they are not counted."""
MAX_MEMBERS = 1000
"""The maximum of members in one object. It is only checked in a body with more than twice as many members in all."""
MAX_DEPTH = 250
"""The maximum depth of nested objects and lists. orjson cannot serialize a value of more than 254 levels, and a
translated request, or an event that repeats a field of it, has the field a few levels deeper."""
NAMED_BYTES = 64 * 1024
"""The maximum size of a body whose invalid field the error names. A second, slow parser finds the field."""
MAX_BAD_FIELDS = 5

_LONG = b"0" * 19
"""An integer with this many digits may exceed 64 bits, so its value is checked."""
_DIGITS = bytes(ord("0") if byte in b"0123456789" else ord(" ") for byte in range(256))
_NUL = b"\\u0000"
_INTEGERS = re.compile(rb"(?<![0-9.eE+-])-?[0-9]{19,}+(?![.eE])")
_TEXTS = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


@dataclass(slots=True)
class TextFacts(ValueCount):
    """Counts of a JSON text before it is parsed. They are collected part by part, since one pass over ten megabytes
    takes as long as many requests. The values of small bodies are not counted."""

    colons: int = 0
    brackets: int = 0
    long_digits: bool = False
    """Whether there is a sequence of digits that may be an integer beyond 64 bits."""
    nul: bool = False
    _last: bytes = b""
    """The last bytes of the previous part, since an escape may continue in the next part."""
    _last_outside: bytes = b""
    """The last bytes outside of texts, since a number may continue in the next part."""

    def add(self, part: bytes) -> None:
        """Count the next part. This takes 0.1 to 1.3 ms for 256 kB."""
        outside = self.count(part)
        self.colons += outside.count(b":")
        self.brackets += outside.count(b"{") + outside.count(b"[")
        digits = self._last_outside + outside
        self.long_digits = self.long_digits or _LONG in digits.translate(_DIGITS)
        self._last_outside = digits[-len(_LONG) :]
        self.nul = self.nul or (b"\\" in part and _NUL in part) or _NUL in self._last + part[: len(_NUL)]
        self._last = (self._last + part[-len(_NUL) :])[-len(_NUL) :]


def too_many_values(limit: int) -> PayloadTooLarge:
    """Return the error for a body with more values than `limit`."""
    return PayloadTooLarge(
        f"The body has more than {limit} JSON values. Send less at once; large lists of numbers can be sent as text."
    )


def parse_json(raw: bytes, facts: TextFacts | None = None) -> Any:
    """Parse a JSON text. Every part of the value can be forwarded unchanged. `facts` are the counts of this text, if
    they are known.

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
    """Return the counts of a small text, without the number of its values. This takes a third of the time of `add`."""
    return TextFacts(
        colons=raw.count(b":"),
        brackets=raw.count(b"{") + raw.count(b"["),
        long_digits=_LONG in raw.translate(_DIGITS),
        nul=_NUL in raw,
    )


def refuse_nul(data: object) -> None:
    """Raise ValidationFailed if a text contains a NUL, which PostgreSQL and most providers do not accept."""
    if details := _named(data, has_nul, "a NUL character is not text"):
        raise ValidationFailed("The request is not valid.", details=details)


def _refuse_lost_digits(raw: bytes, data: object) -> None:
    """Refuse a number that lost digits when it was parsed. The text is searched only if the value has such a number,
    since the digits may be those of a decimal."""
    details = _named(data, lost_digits, TOO_LONG)
    if not details:
        return
    if len(raw) > NAMED_BYTES or any(_beyond_64_bits(found[0]) for found in _INTEGERS.finditer(_TEXTS.sub(b'""', raw))):
        raise ValidationFailed("The request is not valid.", details=details)


def _named(data: object, bad: Callable[[object], bool], why: str) -> list[str]:
    return [f"{field}: {why}" for field in islice(fields_with(bad, data), MAX_BAD_FIELDS)]


def _require_writable(data: object) -> None:
    try:
        orjson.dumps([[[[data]]]])
    except orjson.JSONEncodeError:
        raise InvalidRequest(f"The body is nested more than {MAX_DEPTH} levels deep.") from None


def _beyond_64_bits(digits: bytes) -> bool:
    return len(digits) > 20 or not -(2**63) <= int(digits) < 2**64


def _any_length(digits: str) -> int:
    """Return the integer, or one beyond 64 bits for more digits: Python refuses to parse thousands of digits."""
    return int(digits) if len(digits) <= 20 else 2**64
