"""What a JSON text costs is known before it is parsed."""

import json
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.platform_api.chat.schemas import ChatRequestBody
from apps.platform_api.http.body import json_text
from apps.platform_api.http.body.json_body import parse
from apps.platform_api.http.body.json_fields import TOO_LONG
from apps.platform_api.http.body.json_text import MAX_MEMBERS, TextFacts, facts_of, parse_json
from platform_app.errors import InvalidRequest, ValidationFailed

TEXT = st.text(st.sampled_from('ab"\\,[{:1é\n'), max_size=8)
VALUES = st.recursive(
    st.none() | st.integers(-5, 5) | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=40,
)


def counted(value: Any) -> int:
    """Values as TextFacts counts them: texts, commas between things, lists and objects."""
    if isinstance(value, str):
        return 1
    if isinstance(value, list):
        return 1 + max(0, len(value) - 1) + sum(map(counted, value))
    if isinstance(value, dict):
        return 1 + len(value) + max(0, len(value) - 1) + sum(map(counted, value.values()))
    return 0


def structure_of(value: Any) -> tuple[int, int]:
    """Return how many members a value has, and how many lists and objects it is made of."""
    if not isinstance(value, list | dict):
        return 0, 0
    inner = [structure_of(each) for each in (value.values() if isinstance(value, dict) else value)]
    members = len(value) if isinstance(value, dict) else 0
    return members + sum(each[0] for each in inner), 1 + sum(each[1] for each in inner)


def facts_of_parts(raw: bytes, cuts: list[int]) -> TextFacts:
    """Count a text that is split at these positions."""
    edges = sorted({0, *(cut for cut in cuts if cut < len(raw)), len(raw)})
    facts = TextFacts()
    for start, end in pairwise(edges):
        facts.add(raw[start:end])
    return facts


@given(value=VALUES, cuts=st.lists(st.integers(0, 400), max_size=5), ascii_only=st.booleans())
def test_values_are_counted_however_the_text_is_split(value: Any, cuts: list[int], ascii_only: bool) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only).encode()
    facts = facts_of_parts(raw, cuts)
    assert facts.values == counted(value)
    assert (facts.colons, facts.brackets) == structure_of(value)
    whole = facts_of(raw)
    assert whole.colons >= facts.colons
    assert whole.brackets >= facts.brackets


@given(cuts=st.lists(st.integers(1, 60), max_size=5))
def test_facts_that_lie_on_a_seam_are_found(cuts: list[int]) -> None:
    raw = rb'{"a": 123456789012345678901234567890, "b": "\u0000"}'
    facts = facts_of_parts(raw, cuts)
    assert (facts.long_digits, facts.nul) == (True, True)


@pytest.mark.parametrize("width", [1, 2, 3, 7, 19, 20, 40])
def test_facts_are_those_of_the_whole_text(width: int) -> None:
    """Each escape, text and number is cut somewhere."""
    raw = rb'{"a\\\"b": ["\\\\", "x\\"], "c": [{}, [1, 2], "[,{:"], "n": 1234567890123456789, "\u0000": ""}'
    whole = facts_of(raw)
    for first in range(1, len(raw)):
        facts = TextFacts()
        facts.add(raw[:first])
        for start in range(first, len(raw), width):
            facts.add(raw[start : start + width])
        assert facts.values == counted(json.loads(raw)) == 20
        assert (facts.colons, facts.brackets) == structure_of(json.loads(raw)) == (4, 5)
        assert (facts.long_digits, facts.nul) == (whole.long_digits, whole.nul) == (True, True)


@given(cuts=st.lists(st.integers(1, 80), max_size=5))
def test_digits_count_only_outside_of_texts(cuts: list[int]) -> None:
    raw = b'["1234567890123456789", 1234567890, "0", 123456789, "12345\\"67890", 1234567890]'
    facts = facts_of_parts(raw, cuts)
    assert not facts.long_digits


@pytest.mark.parametrize("width", [1, 5, 1000])
def test_harmless_text_has_nothing_to_check(width: int) -> None:
    raw = rb'{"a": 123456789012345678, "b": "\u0001\u00010000"}'
    facts = TextFacts()
    for start in range(0, len(raw), width):
        facts.add(raw[start : start + width])
    whole = facts_of(raw)
    assert (facts.long_digits, facts.nul) == (whole.long_digits, whole.nul) == (False, False)


def test_values_of_many_texts_are_all_counted() -> None:
    """A limit above the default one must see them too."""
    facts = TextFacts()
    facts.add(b"[" + b'"",' * 110_000 + b'""]')
    assert facts.values == 1 + 110_001 + 110_000


@pytest.mark.parametrize("raw", [rb'{"k": ["\ud800"]}', b'{"k": [NaN]}'])
def test_long_name_is_cut_in_the_path(raw: bytes) -> None:
    raw = raw.replace(b"k", b"k" * 10_000)
    with pytest.raises(ValidationFailed) as caught:
        parse_json(raw)
    assert caught.value.details is not None
    assert caught.value.details[0].startswith("k" * 64 + "[0]: ")


def test_large_text_with_lone_surrogate_names_its_field() -> None:
    raw = b'{"' + b"k" * 100_000 + b'": [' + b"0," * 90_000 + rb'"\ud800"]}'
    with pytest.raises(InvalidRequest) as caught:
        parse_json(raw)
    assert "character 280" in caught.value.message
    assert len(caught.value.message) < 200


def test_object_of_too_many_members_is_refused() -> None:
    many = {f"name-{number}": 0 for number in range(MAX_MEMBERS + 1)}
    raw = orjson.dumps({"metadata": {**many}, "more": [{**many}]})
    with pytest.raises(ValidationFailed) as caught:
        parse_json(raw)
    assert caught.value.details == [f"metadata: has more than {MAX_MEMBERS} members"]
    parse_json(orjson.dumps({f"name-{number}": 0 for number in range(MAX_MEMBERS)}))


def test_members_are_counted_in_bodies_with_twice_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "MAX_MEMBERS", 3)
    parse_json(b'{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6}')
    parse_json(b'{"a":{"a":1,"b":2,"c":3},"b":{"a":1,"b":2,"c":3}}')
    with pytest.raises(ValidationFailed) as caught:
        parse_json(b'{"a":1,"b":{"a":1,"b":2,"c":3,"d":4},"c":3}')
    assert caught.value.details == ["b: has more than 3 members"]
    with pytest.raises(ValidationFailed) as caught:
        parse_json(b'{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7}')
    assert caught.value.details == ["body: has more than 3 members"]


@pytest.mark.parametrize("depth", [249, 250, 251, 254, 255, 256])
@pytest.mark.parametrize("known", [True, False])
def test_every_parsed_value_can_be_written(depth: int, known: bool) -> None:
    """orjson reads deeper values than it writes, and events and translations have a field up to four levels deeper.
    docs/http/openai.md has the number."""
    raw = b'{"a":' * (depth - 1) + b"[]" + b"}" * (depth - 1)
    facts = facts_of(raw) if known else None
    if depth <= 250:
        assert orjson.dumps([[[[parse_json(raw, facts)]]]]) == b"[[[[%b]]]]" % raw
    else:
        with pytest.raises(InvalidRequest, match="more than 250 levels"):
            parse_json(raw, facts)


FAR = b"9" * 400
"""An integer beyond the floating-point numbers too, which orjson calls malformed."""


def test_field_of_malformed_json_is_named_in_small_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = b'{"a": [1, NaN]}'
    monkeypatch.setattr(json_text, "NAMED_BYTES", len(raw))
    with pytest.raises(ValidationFailed) as caught:
        parse_json(raw)
    assert caught.value.details == ["a[1]: expected a finite number of at most 64 bits"]
    with pytest.raises(InvalidRequest):
        parse_json(raw + b" ")


def test_integers_around_64_bits_are_named_beside_a_huge_one() -> None:
    raw = (
        b'{"good": [18446744073709551615, -9223372036854775808], '
        b'"bad": [18446744073709551616, -9223372036854775809, %b, -%b]}' % (FAR, FAR)
    )
    with pytest.raises(ValidationFailed) as caught:
        parse_json(raw)
    assert caught.value.details == [f"bad[{index}]: {TOO_LONG}" for index in range(4)]


def test_only_first_bad_fields_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "MAX_BAD_FIELDS", 2)
    with pytest.raises(ValidationFailed) as caught:
        parse_json(b"[NaN, 1, NaN, NaN]")
    assert [each.partition(":")[0] for each in caught.value.details or []] == ["[0]", "[2]"]


DECIMAL = b"1" + b"0" * 30 + b".5"
"""A number that loses digits and is not an integer, so it may."""


def test_integer_of_64_bits_beside_a_long_decimal_passes() -> None:
    numbers = b"[%b, 18446744073709551615, -9223372036854775808]" % DECIMAL
    assert parse_json(numbers) == [1e30, 2**64 - 1, -(2**63)]


def test_long_decimals_pass_in_small_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a large body the search for them would cost too much."""
    monkeypatch.setattr(json_text, "NAMED_BYTES", len(DECIMAL))
    assert parse_json(DECIMAL) == 1e30
    with pytest.raises(ValidationFailed) as caught:
        parse_json(DECIMAL + b" ")
    assert caught.value.details == [f"body: {TOO_LONG}"]


def test_only_first_problem_of_a_list_is_reported() -> None:
    raw = orjson.dumps({"messages": [{"role": "user", "content": [{}] * 100}] * 100})
    with pytest.raises(ValidationFailed) as caught:
        parse(ChatRequestBody, raw)
    assert caught.value.details == ["messages[0].content[0]: expected an object with type 'text' or 'image_url'"]
