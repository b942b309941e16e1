"""JSON with details that orjson refuses."""

import json

import orjson
import pytest

from platform_app.llm.codecs import lenient_json
from platform_app.llm.codecs.exact_json import is_json_object
from platform_app.llm.codecs.lenient_json import Unwritable, dumps, joined
from platform_app.llm.codecs.partial_json import object_of_start

EMOJI = "\N{GRINNING FACE}"
HALVES = "\ud83d\ude00"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"a": "\ud83d", "n": float("inf")}, {"a": "\ud83d", "n": None}),
        ({"a": 10**23, "n": float("nan")}, {"a": 10**23, "n": None}),
        ({"a": "\ud83d", "n": orjson.Fragment(b'{"x": 1}')}, {"a": "\ud83d", "n": {"x": 1}}),
        ([2**64, (1.5, "\ude00")], [2**64, [1.5, "\ude00"]]),
    ],
)
def test_odd_values_are_written_beside_each_other(value: object, written: object) -> None:
    assert json.loads(dumps(value)) == written


def test_value_nested_too_deeply_is_refused() -> None:
    nested: list[object] = []
    for _ in range(300):
        nested = [nested]
    with pytest.raises(Unwritable):
        dumps(nested)
    with pytest.raises(Unwritable):
        dumps({"a": object(), "b": "\ud83d"})


def test_halves_of_an_emoji_are_joined() -> None:
    assert [joined(text) for text in ("a", HALVES, "x\ud83d", "\ude00y", EMOJI)] == [
        "a", EMOJI, "x\ufffd", "\ufffdy", EMOJI,
    ]  # fmt: skip
    assert is_json_object(f'{{"a": "{HALVES}"}}')
    assert is_json_object('{"a": "\ud83d"}')
    assert object_of_start(f'{{"a": "{HALVES}", "b": "\ud83d') == {"a": EMOJI}
    assert lenient_json.loads(dumps(HALVES)) == EMOJI
