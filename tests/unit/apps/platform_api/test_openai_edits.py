"""Changes to an answer's bytes: what is to change does, and nothing else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.platform_api.openai_edits import with_model, without_usage
from platform_app.errors import ProviderBadResponse

_TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(['"model":"x"', ',"usage":null', "model"])
_NAMES = st.sampled_from(["model", "usage", "choices", "id", 'a"b', ',"usage":null'])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=8,
)
_SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n ", " :\t")])


@given(st.dictionaries(_NAMES, _VALUES), _TEXTS, _TEXTS, _SEPARATORS, st.booleans())
def test_only_the_model_changes(
    body: dict[str, Any], own: str, name: str, separators: tuple[str, str], ascii_only: bool
) -> None:
    body = {**body, "model": own}
    raw = json.dumps(body, separators=separators, ensure_ascii=ascii_only).encode()
    assert json.loads(with_model(raw, body, name)) == {**body, "model": name}
    assert list(json.loads(with_model(raw, body, name))) == list(body)


@given(st.dictionaries(_NAMES, _VALUES), _VALUES, _SEPARATORS, st.booleans())
def test_only_the_usage_goes(body: dict[str, Any], usage: Any, separators: tuple[str, str], ascii_only: bool) -> None:
    body = {**body, "usage": usage}
    raw = json.dumps(body, separators=separators, ensure_ascii=ascii_only).encode()
    text, less = without_usage(raw, body)
    assert json.loads(text) == less == {name: value for name, value in body.items() if name != "usage"}


def test_the_bytes_around_stay_as_they_were() -> None:
    raw = b'{ "a" : 1.00, "n": 123456789012345678901234567890, "model" : "their\\u0020s",\t"z":1E2 ,"usage" : null }'
    body = json.loads(raw)
    assert with_model(raw, body, "ours") == raw.replace(b'"their\\u0020s"', b'"ours"')
    assert without_usage(raw, body)[0] == raw.replace(b' ,"usage" : null', b" ")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model": "theirs", "data": {"model": "other"}}',
        b'{"mod\\u0065l": "theirs", "data": {"model": "other"}}',
        b'{"model": null, "data": 5}',
        b'{"mod\\u0065l": "theirs", "object": "model"}',
        b'{"model": "first", "model": "last"}',
    ],
)
def test_a_model_that_cannot_be_told_by_its_bytes_is_changed_all_the_same(raw: bytes) -> None:
    assert json.loads(with_model(raw, json.loads(raw), "ours")) == {**json.loads(raw), "model": "ours"}


def test_an_answer_without_a_model_gets_none() -> None:
    assert with_model(b'{"data":[]}', {"data": []}, "ours") == b'{"data":[]}'


def test_an_answer_that_cannot_be_written_is_the_providers_fault() -> None:
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    with pytest.raises(ProviderBadResponse):
        with_model(b"{}", {"model": 1, "deep": deep}, "ours")
    with pytest.raises(ProviderBadResponse):
        without_usage(b"{}", {"usage": 1, "deep": deep})
