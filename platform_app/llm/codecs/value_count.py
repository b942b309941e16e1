"""Count the values of JSON texts before they are parsed: their number decides what parsing costs, not their bytes.

A request's body is counted when it arrives. A text in it, such as the arguments of a call, is one value there, and may
be JSON with millions of values itself.
"""

from dataclasses import dataclass

MAX_VALUES = 100_000
"""The maximum of values in the JSON texts inside of one request, all together."""
_NOT_STRUCTURE = bytes(set(range(256)) - set(b",[{"))
_PART = 256 * 1024
"""Bytes that are counted at once: the memory for it is a multiple of them."""


@dataclass(slots=True)
class ValueCount:
    """The number of values in a text whose parts are added one after another."""

    values: int = 0
    """The number of texts (names of members included), commas, lists and objects. It is at least half of the number of
    values that the parser creates."""
    _in_text: bool = False
    _open_escape: bool = False
    """Whether the last byte of the previous part is a backslash that escapes the next byte."""

    def count(self, part: bytes) -> bytes:
        """Count the next part, and return what is outside of its texts: structure, numbers, spaces."""
        text = b"\\" + part if self._open_escape else part
        self._open_escape = False
        if b"\\" in text:
            if (len(text) - len(text.rstrip(b"\\"))) % 2:
                self._open_escape = True
                text = text[:-1]
            # Remove escaped backslashes, then escaped quotes: each remaining quote begins or ends a text.
            text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
        quotes = text.count(b'"')
        self.values += (quotes + self._in_text) // 2  # a text is counted at its end
        outside = b"".join(text.split(b'"')[self._in_text :: 2])
        self.values += len(outside.translate(None, _NOT_STRUCTURE))
        self._in_text ^= bool(quotes % 2)
        return outside


class ValueBudget:
    """The values that the JSON texts of one request may have together."""

    def __init__(self, most: int = MAX_VALUES) -> None:
        self._most = most
        self._loose = 0
        """At least as many values as the texts so far have: commas in their own texts are counted too."""
        self._texts: list[str | bytes] | None = []
        """The texts that are counted loosely alone; None once the exact count was needed."""
        self._exact = 0

    def allows(self, text: str | bytes) -> bool:
        """Count a text. Return False if there are too many values now, so that it must not be parsed."""
        if self._texts is not None:
            self._loose += _loose_count(text)
            self._texts.append(text)
            if self._loose <= self._most:
                return True
            for each in self._texts[:-1]:
                self._exact += _values_of(each)
            self._texts = None
        self._exact += _values_of(text)
        return self._exact <= self._most


def _loose_count(text: str | bytes) -> int:
    if isinstance(text, str):
        return sum(map(text.count, ',[{"'))
    return sum(map(text.count, (b",", b"[", b"{", b'"')))


def _values_of(given: str | bytes) -> int:
    text = given.encode(errors="replace") if isinstance(given, str) else given
    count = ValueCount()
    for start in range(0, len(text), _PART):
        count.count(text[start : start + _PART])
    return count.values
