"""The count of JSON values in texts that are not parsed yet."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.llm.codecs.value_count import ValueBudget, ValueCount

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('a,[{"\\\n'), max_size=6),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=5),
)


def values_of(value: object) -> int:
    """Return how many values a parser makes, names of members included."""
    if isinstance(value, dict):
        return 1 + sum(1 + values_of(each) for each in value.values())
    return 1 + sum(map(values_of, value)) if isinstance(value, list) else 1


@given(value=JSON, cut=st.integers(0, 60))
def test_count_is_at_least_half_of_the_values(value: object, cut: int) -> None:
    text = json.dumps(value).encode()
    count = ValueCount()
    count.count(text[:cut])
    count.count(text[cut:])
    assert values_of(value) <= 2 * count.values + 1


@pytest.mark.parametrize(("most", "allowed"), [(31, True), (30, False)])
@pytest.mark.parametrize("kind", [str, bytes])
def test_budget_is_exact(kind: type[str] | type[bytes], most: int, allowed: bool) -> None:
    """30 commas and a list are 31 values, and commas within a text are none, also in parts of 256 kB."""
    text = json.dumps([1] * 31)
    assert ValueBudget(most).allows(text if kind is str else text.encode()) is allowed
    long = json.dumps([1] * 30 + ["[,]" * 100_000])  # one value more, for the text
    assert ValueBudget(most + 1).allows(long if kind is str else long.encode()) is allowed


def test_budget_counts_earlier_texts_exactly() -> None:
    """They are counted loosely first: as soon as that is too much, each of them counts as much as it has."""
    text = json.dumps(["a,b"] * 10)  # 20 values
    budget = ValueBudget(most=60)
    assert [budget.allows(text) for _ in range(4)] == [True, True, True, False]


def test_budget_ends_with_the_texts_together() -> None:
    budget = ValueBudget(most=100)
    text = json.dumps([1] * 30)
    assert [budget.allows(text), budget.allows(text.encode()), budget.allows(text), budget.allows(text)] == [
        True, True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize("kind", [str, bytes])
def test_budget_does_not_count_commas_in_texts(kind: type[str] | type[bytes]) -> None:
    budget = ValueBudget(most=100)
    written = json.dumps({"code": 'f(a, b, [c], {d}, "e")' * 50})
    text = written if kind is str else written.encode()
    assert all(budget.allows(text) for _ in range(20))
    assert not budget.allows(json.dumps([[]] * 100))
