"""The estimate of each part of a request, worked out by hand, and the bounds of its fields."""

from typing import Any

import pytest

from platform_app.llm.usage.token_estimate import (
    estimate_prompt_tokens,
    latin_length,
    requested_output_tokens,
    usual_output_tokens,
)

URL = {"url": "https://example.com/a.png"}
TEXT = "x" * 35
"""Ten tokens."""


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        ("", 0),
        (TEXT, 10),
        ([], 0),
        (None, 0),
        ([None], 0),
        ([TEXT, TEXT], 20),
        ([5], 1),
        ([{"type": "text", "text": TEXT}, {"type": "output_text", "text": TEXT}], 20),
        ([{"type": "text", "text": [TEXT]}], 12),  # as JSON it has 39 characters
        ([{"type": "text", "text": None}, {"type": "text"}], 0),
        ([{"type": "image_url", "image_url": URL}, {"type": "image_url"}], 2200),
        ([{"type": "image_url", "image_url": {**URL, "detail": "low"}}], 85),
        ([{"type": "image_url", "image_url": {**URL, "detail": "high"}}], 1100),
        ([{"type": "input_image", "detail": "low"}, {"type": "image", "detail": "low"}], 170),
        ([{"type": "input_image", "detail": "high"}, {"type": "image"}], 2200),
        ([{"type": "tool_result", "content": TEXT}, {"type": "tool_result"}], 10),
        ([{"type": "document", "source": {"data": "A" * 600}}], 101),
        ([{"type": "input_file", "file_data": "A" * 605}], 101),
        ([{"type": "file", "file": {"file_data": "A" * 606}}], 102),
        ([{"type": "file", "file": {"file_data": ""}}], 1),
        ([{"type": "file", "file": {"file_id": "file-1"}}, {"type": "file"}], 2200),
        ([{"type": "input_audio", "input_audio": {"data": "A" * 9999}}], 10),
        ([{"type": "input_audio", "input_audio": {"data": "A" * 10_000}}], 11),
        ([{"type": "new", "x": "y"}], 7),  # as JSON it has 22 characters
    ],
    ids=repr,
)
def test_content_counts_what_its_parts_say(content: object, tokens: int) -> None:
    """Each message adds four tokens for its role and its separators."""
    assert estimate_prompt_tokens({"messages": [{"role": "user", "content": content}]}) == 4 + tokens
    assert estimate_prompt_tokens({"messages": [{"role": "tool", "output": content}]}) == 4 + tokens


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({}, 0),
        ({"input": None}, 0),
        ({"input": [None, 7]}, 1),
        ({"input": [[1, 2, 3], [4]]}, 4),
        ({"input": 0.5}, 1),
        ({"messages": ["four"]}, 4 + 2),  # as JSON it has six characters
        ({"messages": TEXT}, 4 + 11),
        ({"messages": [None, {}]}, 4 + 4),
        ({"messages": [{"role": "r" * 350, "name": TEXT, "content": TEXT}]}, 4 + 10 + 10),
        ({"messages": [{"tool_calls": None, "tool_call_id": TEXT}]}, 4 + 10),
        ({"messages": [], "input": TEXT}, 0),
        ({"input": TEXT, "instructions": TEXT, "system": [TEXT]}, 10 + 4 + 10 + 4 + 10),
        ({"input": TEXT, "tools": None, "functions": [], "text": {}, "output_config": "y" * 33}, 10 + 1 + 1 + 10),
        ({"input": TEXT, "response_format": "y" * 33, "user": TEXT}, 10 + 10),
    ],
    ids=repr,
)
def test_body_counts_its_messages_and_its_fields(body: dict[str, Any], tokens: int) -> None:
    assert estimate_prompt_tokens(body) == tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("é" * 35, 10), ("世" * 35, 35), ("x" * 35 + "世" * 5, 15), ("é" + "世", 2), ("\ud800", 1)],
    ids=ascii,
)
def test_only_other_scripts_count_by_character(text: str, tokens: int) -> None:
    assert estimate_prompt_tokens({"input": text}) == tokens


@pytest.mark.parametrize("value", [2**70, object, "\ud800"], ids=repr)
def test_value_outside_json_counts_by_its_text(value: object) -> None:
    assert estimate_prompt_tokens({"input": "", "tools": [value]}) == estimate_prompt_tokens({"input": repr([value])})


@pytest.mark.parametrize(
    ("text", "length"), [("", 0), ("four", 4), ("é", 1), ("世", 4), ("世界", 7), ("four世", 8), ("é世界", 8)]
)
def test_length_counts_other_scripts_as_whole_tokens(text: str, length: int) -> None:
    assert latin_length(text) == length


@pytest.mark.parametrize(
    ("fields", "usual"),
    [
        ({}, 100),
        ({"n": 3}, 300),
        ({"max_tokens": 1}, 1),
        ({"max_tokens": 99, "n": 3}, 297),
        ({"max_tokens": 101, "n": 3}, 300),
        ({"max_tokens": 101}, 100),
        ({"max_tokens": 0, "n": 0}, 100),
    ],
)
def test_usual_output_is_the_default_or_what_is_allowed(fields: dict[str, Any], usual: int) -> None:
    assert usual_output_tokens(fields, 100) == usual


@pytest.mark.parametrize("odd", [0, -1, True, 1.5, "7", None, [7]])
def test_odd_limit_or_number_of_choices_is_ignored(odd: object) -> None:
    assert requested_output_tokens({"max_tokens": odd, "n": odd}, 100) == 100
    assert requested_output_tokens({"max_completion_tokens": odd, "max_tokens": 1, "n": 1}, 100) == 1
