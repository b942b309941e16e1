"""What is read can be written again and says the same; everything else is refused, by name."""

import json
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.platform_api.exact_json import MAX_DEPTH, paths_where, read_exactly
from platform_app.errors import InvalidRequest

_NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
_VALUES = st.recursive(
    st.none() | st.booleans() | _NUMBERS | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('abc"\\0123456789.e', max_size=30), inner),
    max_leaves=12,
)


def nested(depth: int) -> bytes:
    """An object that many levels deep."""
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@given(_VALUES, st.booleans())
def test_what_is_read_is_what_was_sent(value: Any, ascii_only: bool) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert read_exactly(raw) == value
    assert orjson.loads(orjson.dumps(read_exactly(raw))) == value


@pytest.mark.parametrize(
    "text",
    [
        "18446744073709551615",
        "-9223372036854775808",
        "1.0",
        "1e-7",
        "0.12345678901234567890123",
        "12345678901234567890123.5",
        "12345678901234567890123e2",
        "1E+19",
        "-0.0",
        '"123456789012345678901234567890"',
        r'"a quote \" and 123456789012345678901234567890"',
        r'"\\", "123456789012345678901234567890"',
    ],
)
def test_a_number_that_arrives_as_it_was_sent_passes(text: str) -> None:
    assert read_exactly(f'{{"a": [{text}]}}'.encode()) == json.loads(f'{{"a": [{text}]}}')


@given(st.integers(2**64, 10**40) | st.integers(-(10**40), -(2**63) - 1), _VALUES, _VALUES)
def test_an_integer_beyond_64_bits_is_refused_by_name(number: int, before: Any, after: Any) -> None:
    raw = json.dumps({"before": before, "long": [1, {"id": number}], "after": after}).encode()
    with pytest.raises(InvalidRequest, match="64 bits") as caught:
        read_exactly(raw)
    assert caught.value.param == "long[1].id"


def test_one_of_more_digits_than_python_reads_is_refused_too() -> None:
    with pytest.raises(InvalidRequest):
        read_exactly(b'{"a": %b}' % (b"9" * 5000))
    with pytest.raises(InvalidRequest, match="64 bits"):
        read_exactly(b'{"a": %b}' % (b"9" * 300))


def test_half_a_surrogate_pair_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="surrogate") as caught:
        read_exactly(b'{"messages": [{"role": "user", "content": "a \\uD800 b"}]}')
    assert caught.value.param == "messages[0].content"
    assert read_exactly(b'{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}


@pytest.mark.parametrize(
    "raw", [b"", b" ", b"{", b"NaN", b'{"a": Infinity}', b"1e999", b"\xff", b'"\xff"', b"\xef\xbb\xbf{}", b"{'a': 1}"]
)
def test_what_is_not_json_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not valid JSON"):
        read_exactly(raw)


@pytest.mark.parametrize("depth", [2, 100, MAX_DEPTH])
def test_nesting_that_can_be_written_passes(depth: int) -> None:
    assert orjson.dumps(read_exactly(nested(depth))) == nested(depth)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 900, 1024, 1025, 100_000])
def test_deeper_nesting_is_refused(depth: int) -> None:
    with pytest.raises(InvalidRequest):
        read_exactly(nested(depth))


def test_many_brackets_are_no_depth() -> None:
    assert len(read_exactly(b"[" + b"[],{}," * 500 + b'"[[[["]')) == 1001


def test_of_two_members_of_one_name_the_last_counts() -> None:
    assert read_exactly(b'{"a": 1, "a": 2}') == {"a": 2}


def test_a_refusal_takes_no_longer_than_reading() -> None:
    """A large body with the wrong number at its end, far behind where names are looked for."""
    raw = b'{"input": [' + b"1," * 1_000_000 + b"18446744073709551616]}"
    began = time.process_time()
    with pytest.raises(InvalidRequest, match="64 bits") as caught:
        read_exactly(raw)
    assert caught.value.param is None
    assert time.process_time() - began < 2


def test_paths() -> None:
    data = {"a": [1, {"b": "x"}], "c": {"x": "x", "d": 1}, "e": "x"}
    assert set(paths_where(lambda value: value == "x", data)) == {"a[1].b", "c", "e"}
    assert list(paths_where(lambda value: value == "x", "x")) == ["body"]
