import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.platform_api.openai.json_patch import with_text, without
from platform_app.errors import ProviderBadResponse

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ['"model":"x"', '\\"model\\":', "model", "usage", '"usage":null,', ',"usage":null', "\\", '"']
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=5)
LAYOUTS = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n ", "\t: ")])


@given(OBJECTS, TEXTS, TEXTS, LAYOUTS, st.booleans())
def test_only_this_member_changes(
    rest: dict[str, Any], old: str, new: str, layout: tuple[str, str], ascii_only: bool
) -> None:
    raw = json.dumps({**rest, "model": old}, separators=layout, ensure_ascii=ascii_only).encode()
    changed = with_text(raw, orjson.loads(raw), "model", new)
    assert orjson.loads(changed) == {**orjson.loads(raw), "model": new}
    assert list(orjson.loads(changed)) == list(orjson.loads(raw))


@given(OBJECTS, LAYOUTS, st.integers(0, 5), st.none() | VALUES)
def test_only_this_member_is_removed(rest: dict[str, Any], layout: tuple[str, str], place: int, value: Any) -> None:
    rest.pop("usage", None)
    members = list(rest.items())
    members.insert(place, ("usage", value))
    raw = json.dumps(dict(members), separators=layout).encode()
    left = without(raw, orjson.loads(raw), "usage")
    assert orjson.loads(left) == orjson.loads(json.dumps(rest))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"id":1.50,"model":"a\\"b","x":1E5}', b'{"id":1.50,"model":"new","x":1E5}'),
        (b'{ "model" : null , "n" : 12345678901234567890123 }', b'{ "model" : "new" , "n" : 12345678901234567890123 }'),
        (b'{"text":"say \\"model\\":\\"a\\"","model":"a"}', b'{"text":"say \\"model\\":\\"a\\"","model":"new"}'),
    ],
)
def test_every_other_byte_stays(raw: bytes, expected: bytes) -> None:
    assert with_text(raw, orjson.loads(raw), "model", "new") == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"a":1.50,"usage":null,"b":1E5}', b'{"a":1.50,"b":1E5}'),
        (b'{"usage":null,"b":1E5}', b'{"b":1E5}'),
        (b'{"a":1.50 , "usage" : null }', b'{"a":1.50 }'),
        (b'{"usage":null}', b"{}"),
    ],
)
def test_member_is_removed_with_its_comma(raw: bytes, expected: bytes) -> None:
    assert without(raw, orjson.loads(raw), "usage") == expected


def test_inner_member_of_the_same_name_is_kept() -> None:
    raw = b'{"choices":[{"usage":null,"model":"inner"}],"model":"outer","usage":null}'
    renamed = with_text(raw, orjson.loads(raw), "model", "new")
    assert orjson.loads(renamed) == {**orjson.loads(raw), "model": "new"}
    left = without(raw, orjson.loads(raw), "usage")
    assert orjson.loads(left) == {"choices": [{"usage": None, "model": "inner"}], "model": "outer"}


def test_missing_member_is_not_added() -> None:
    assert with_text(b'{"a":1}', {"a": 1}, "model", "new") == b'{"a":1}'
    assert without(b'{"a":1}', {"a": 1}, "usage") == b'{"a":1}'


def test_unserializable_object_is_a_provider_error() -> None:
    deep = b'{"a":' * 300 + b"1" + b"}" * 300
    raw = b'{"model":"x","b":{"model":"y"},"c":' + deep + b"}"
    with pytest.raises(ProviderBadResponse):
        with_text(raw, orjson.loads(raw), "model", "z")
