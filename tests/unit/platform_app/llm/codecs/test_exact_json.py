"""When numbers are kept as they are written."""

import pytest

from platform_app.llm.codecs.exact_json import MAX_EXACT_VALUES, may_lose_digits


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"a": 1}', False),
        (b'{"a": 1.50}', True),
        (b'{"a": 12345678901234567890}', True),
        (b"[1.5" + b",1" * MAX_EXACT_VALUES + b"]", True),
        (b"[1.5" + b",1" * (MAX_EXACT_VALUES + 1) + b"]", False),
    ],
    ids=["whole", "decimal", "large", "most", "too many"],
)
def test_numbers_are_kept_unless_there_are_too_many_values(raw: bytes, expected: bool) -> None:
    assert may_lose_digits(raw) is expected
