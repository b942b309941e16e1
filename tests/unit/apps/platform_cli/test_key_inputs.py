"""Options of `keys` that contradict each other."""

import pytest

from apps.platform_cli.keys.inputs import limits
from platform_app.errors import ValidationFailed


def test_limits_are_read_by_rule() -> None:
    assert limits(["key-rpm=120", "key-daily-usd=2.50"]) == {"key-rpm": 120, "key-daily-usd": 2.5}


@pytest.mark.parametrize("second", ["key-rpm=60", "key-rpm=120"])
def test_limit_given_twice_is_refused(second: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        limits(["key-rpm=120", "key-tpm=1", second])
    assert caught.value.details == ["--limit key-rpm: given more than once; keep one"]
