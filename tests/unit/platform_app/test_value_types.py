"""request_dataclass: mypy treats it as frozen, and Python does not."""

from dataclasses import replace

import pytest

from platform_app.rate_limit.limiter import Decision
from platform_app.value_types import request_dataclass


@request_dataclass(frozen=True, slots=True)
class Pair:
    """Two numbers."""

    first: int
    second: int = 2


def test_it_is_a_dataclass() -> None:
    assert Pair(1) == Pair(1, 2) != Pair(1, 3)
    assert hash(Pair(1)) == hash(Pair(1, 2))
    assert replace(Pair(1), second=5) == Pair(1, 5)
    assert repr(Pair(1)) == "Pair(first=1, second=2)"


def test_mypy_refuses_an_assignment() -> None:
    """Each comment would be an error of mypy if it did not refuse the line."""
    Pair(1).first = 3  # type: ignore[misc]
    Decision(()).degraded = True  # type: ignore[misc]


def test_no_other_field_can_be_set() -> None:
    with pytest.raises(AttributeError):
        Pair(1).third = 3  # type: ignore[attr-defined]


def test_its_creation_sets_fields_directly() -> None:
    """A frozen dataclass replaces __setattr__ and goes around it, by a call for each field."""
    assert Pair.__setattr__ is object.__setattr__
