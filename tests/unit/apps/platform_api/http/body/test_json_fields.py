"""Integers beyond 64 bits are distinguished from everything that only resembles them."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.platform_api.http.body.json_text import parse_json
from platform_app.errors import ValidationFailed

NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["9" * 25, "\\" + "9" * 25, '"' + "9" * 25, "-" + "9" * 25]
)
VALUES = st.recursive(NUMBERS | TEXTS | st.none(), lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner))


def refuses(raw: bytes) -> bool:
    try:
        parse_json(raw)
    except ValidationFailed:
        return True
    return False


@given(VALUES)
def test_long_integers_in_any_value_are_found(value: object) -> None:
    def walk(item: object) -> bool:
        if isinstance(item, list):
            return any(walk(inner) for inner in item)
        if isinstance(item, dict):
            return any(walk(inner) for inner in item.values())
        return isinstance(item, int) and not -(2**63) <= item < 2**64

    assert refuses(json.dumps(value).encode()) is walk(value)


@pytest.mark.parametrize(
    ("raw", "long"),
    [
        (b"18446744073709551615", False),
        (b"18446744073709551616", True),
        (b"-9223372036854775808", False),
        (b"-9223372036854775809", True),
        (b"1" + b"0" * 30 + b".5", False),
        (b"1" + b"0" * 30 + b"e2", False),
        (b"0." + b"1" * 30, False),
        (b"1e" + b"0" * 30 + b"1", False),
        (b'{"a":"' + b"9" * 30 + b'"}', False),
        (b'{"' + b"9" * 30 + b'":1}', False),
        (b'["\\"' + b"9" * 30 + b'",' + b"9" * 30 + b"]", True),
        (b"9" * 10_000, True),
    ],
)
def test_numbers_around_64_bits_are_classified(raw: bytes, long: bool) -> None:
    assert refuses(raw) is long


def test_digits_inside_a_large_text_are_accepted() -> None:
    raw = orjson.dumps({"messages": [{"role": "user", "content": "1234567890" * 100_000}]})
    assert not refuses(raw)
