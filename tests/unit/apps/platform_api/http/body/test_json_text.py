"""What a JSON text costs is known before it is parsed."""

import json
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.platform_api.chat.schemas import ChatRequestBody
from apps.platform_api.http.body.json_body import parse
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


@given(value=VALUES, cuts=st.lists(st.integers(0, 400), max_size=5), ascii_only=st.booleans())
def test_values_are_counted_however_the_text_is_split(value: Any, cuts: list[int], ascii_only: bool) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only).encode()
    edges = sorted({0, *(cut for cut in cuts if cut < len(raw)), len(raw)})
    facts = TextFacts()
    for start, end in pairwise(edges):
        facts.add(raw[start:end])
    assert facts.values == counted(value)
    whole = facts_of(raw)
    assert (facts.colons, facts.brackets) == (whole.colons, whole.brackets)


@given(cuts=st.lists(st.integers(1, 60), max_size=5))
def test_facts_that_lie_on_a_seam_are_found(cuts: list[int]) -> None:
    raw = rb'{"a": 123456789012345678901234567890, "b": "\u0000"}'
    edges = sorted({0, *(cut for cut in cuts if cut < len(raw)), len(raw)})
    facts = TextFacts()
    for start, end in pairwise(edges):
        facts.add(raw[start:end])
    assert (facts.long_digits, facts.nul) == (True, True)


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


def test_only_first_problem_of_a_list_is_reported() -> None:
    raw = orjson.dumps({"messages": [{"role": "user", "content": [{}] * 100}] * 100})
    with pytest.raises(ValidationFailed) as caught:
        parse(ChatRequestBody, raw)
    assert caught.value.details == ["messages[0].content[0]: expected an object with type 'text' or 'image_url'"]
