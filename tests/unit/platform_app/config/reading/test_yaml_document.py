"""YAML by the rules of YAML 1.2's core schema, with lines and all problems at once."""

import math
from typing import Any

import pytest

from platform_app.config.reading.yaml_document import InvalidYaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0100", 100),
        ("-0", 0),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b11", "0b11"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("1e3", 1000.0),
        (".5", 0.5),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("yes", "yes"),
        ("on", "on"),
        ("N", "N"),
        ("True", True),
        ("FALSE", False),
        ("tRUE", "tRUE"),
        ("2024-10-21", "2024-10-21"),
        ("=", "="),
        ("'0100'", "0100"),
        ('"yes"', "yes"),
        ("!!str 0100", "0100"),
        ("!!int 0100", 100),
        ("!!float 1", 1),
    ],
)
def test_plain_values_follow_the_core_schema(text: str, value: Any) -> None:
    document = read_yaml(f"key: {text}")
    assert document.problems == []
    assert document.data == {"key": value}
    assert type(document.data["key"]) is type(value)


def test_names_that_yaml_1_1_takes_for_booleans_are_text() -> None:
    assert list(read_yaml("on: a\noff: b\ny: c\nNo: d\n").data) == ["on", "off", "y", "No"]


@pytest.mark.parametrize("text", ["a:", "a: ~", "a: null", "a: NULL", "a: {b: }", "a: [1, ]\nb:", "a:\n- 1\n-\n"])
def test_keys_without_a_value_are_problems(text: str) -> None:
    [(path, _, sentence)] = read_yaml(text).problems
    assert sentence.endswith("has no value; write a value, or remove the key")
    assert path


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("a: 1\na: 2\n", 2, "the key 'a' occurs twice, first in line 1; remove one"),
        ("m:\n  x: 1\n  y: 2\n  x: 3\n", 4, "the key 'x' occurs twice in m, first in line 2; remove one"),
        ("m:\n  4: 1\n", 2, "the key 4 in m is a number; as a name it needs quotes: '4'"),
        ("m: {true: 1}", 1, "the key true in m is true or false; as a name it needs quotes: 'true'"),
        ("m: {null: 1}", 1, "a key in m is missing or null; write it, in quotes if it is a name"),
        ("? [a]\n: 1\n", 1, "a key is a list or a mapping; expected text"),
        ("m: !!python/object/apply:os.system [x]", 1, "m: the tag !!python/object/apply:os.system is not supported"),
        ("m: !include other.yaml", 1, "m: the tag !include is not supported; remove it"),
        ("m: !!int many", 1, "m: the value does not have the type of its tag !!int"),
        ("m: " + "9" * 5000, 1, "m: the number has more than 40 digits"),
        ("m: !!int " + "9" * 5000, 1, "m: the value does not have the type of its tag !!int"),
        ("m: 0x" + "f" * 5000, 1, "m: the number has more than 40 digits"),
        ("m: 0o" + "7" * 5000, 1, "m: the number has more than 40 digits"),
        ("m: !!int 0x" + "f" * 5000, 1, "m: the value does not have the type of its tag !!int"),
        ("m: !!float 0x" + "f" * 5000, 1, "m: the value does not have the type of its tag !!float"),
        ("m: {<<: 4}", 1, "'<<' in m must name a mapping, such as '<<: *defaults'"),
    ],
)
def test_problems_name_line_and_key(text: str, line: int, sentence: str) -> None:
    [(_, found_line, found)] = read_yaml(text).problems
    assert (found_line, found[: len(sentence)]) == (line, sentence)


def test_all_problems_of_a_text_are_found() -> None:
    assert len(read_yaml("a:\nb: !x 1\na: 2\nc: {d: , d: 1}\n").problems) == 5


def test_merged_keys_yield_to_the_mappings_own() -> None:
    text = "one: &one {a: 1, b: 1}\ntwo: &two {b: 2, c: 2}\nall: {<<: [*one, *two], c: 3}\n"
    document = read_yaml(text)
    assert document.data["all"] == {"a": 1, "b": 1, "c": 3}
    assert document.problems == []
    assert document.line_of(("all", "b")) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &a [*a]", "line 1: an alias refers to a value that contains the alias"),
        ("a: &a {b: *a}", "line 1: an alias refers to a value that contains the alias"),
        ("[" * 10_000, "values are nested more than 50 deep"),
        ("a: " + "[" * 60 + "]" * 60, "line 1: values are nested more than 50 deep"),
        ('a: 1\nb: "\\UFFFFFFFF"', "line 2: an escape in double quotes has a number above 10FFFF"),
        ('a: 1\nb: "\\U00110000"', "line 2: an escape in double quotes has a number above 10FFFF"),
        ("a: 1\n---\nb: 2\n", "the file must hold one document"),
        ("a:\n\tb: 1\n", "line 2, column 1: while scanning for the next token, found character"),
    ],
)
def test_texts_that_are_refused_as_a_whole(text: str, words: str) -> None:
    with pytest.raises(InvalidYaml) as caught:
        read_yaml(text)
    assert words in str(caught.value)


def test_aliases_that_expand_without_bound_are_refused() -> None:
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 10)}]" for level in range(1, 30)]
    with pytest.raises(InvalidYaml, match="aliases expand to more than 100,000 values"):
        read_yaml("\n".join(lines))
