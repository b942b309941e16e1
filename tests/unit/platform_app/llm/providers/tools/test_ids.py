"""Kind 20: ids of tool calls that Anthropic accepts, unique for each call, the same in its result and in later
turns."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.llm.providers.tools import ids as ids_module
from platform_app.llm.providers.tools.ids import ToolIds

GOOD = re.compile(r"[a-zA-Z0-9_-]{1,64}", re.ASCII)


def sent(*given: str) -> list[str]:
    """Return the ids of calls in this order, each with its result."""
    ids, made = ToolIds(), []
    for each in given:
        made.append(ids.call(each, "here"))
        assert ids.result(each) == made[-1]
    return made


@given(st.lists(st.text(max_size=80) | st.sampled_from(["a", "a:0", "call_0", ""]), max_size=8))
def test_every_call_gets_unique_id(given: list[str]) -> None:
    made = sent(*given)
    assert all(GOOD.fullmatch(each) for each in made)
    assert len(set(made)) == len(made)
    assert sent(*given, "one more turn")[: len(made)] == made  # a later turn changes nothing


def test_valid_ids_are_kept() -> None:
    for good in ("toolu_01A09q90qw90lq917835lq9", "call_abc-1", "x" * 64):
        assert sent(good) == [good]


def test_own_ids_are_unchanged() -> None:
    [made] = sent("functions.f:0")
    assert sent(made) == [made]


def test_similar_ids_stay_distinct() -> None:
    """A valid id that equals the hash of another id, and ids that differ only in characters that Anthropic refuses."""
    [hashed] = sent("functions.f:0")
    assert len(set(sent("functions.f:0", hashed))) == 2
    assert len(set(sent("f:0", "f.0", "f_0", "f 0"))) == 4


def test_results_of_repeated_ids_follow_call_order() -> None:
    ids = ToolIds()
    first, second = ids.call("a", "1"), ids.call("a", "2")
    assert (ids.result("a"), ids.result("a"), ids.result("a")) == (first, second, None)


def test_call_without_result_is_found_by_path() -> None:
    ids = ToolIds()
    assert (ids.any, ids.without_result()) == (False, None)
    ids.call("a", "messages.1.tool_calls.0")
    assert (ids.any, ids.without_result()) == (True, "messages.1.tool_calls.0")
    ids.result("a")
    assert ids.without_result() is None


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the texts that are hashed."""
    texts: list[str] = []

    def note(text: str) -> str:
        texts.append(text)
        return real(text)

    real = ids_module._digest
    monkeypatch.setattr(ids_module, "_digest", note)
    return texts


@pytest.mark.parametrize("given", ["a", "functions.f:0"])
def test_repeated_id_is_hashed_once_for_each_call(given: str, hashed: list[str]) -> None:
    ids = ToolIds()
    made = [ids.call(given, "here") for _ in range(500)]
    assert len(set(made)) == 500
    assert len(hashed) <= 500
    assert [ids.result(given) for _ in range(500)] == made
    assert ids.result(given) is None


def test_candidates_of_a_long_id_cost_no_more_than_short_ones(hashed: list[str]) -> None:
    """A client knows the candidates, and can send each of them as the id of another call before."""
    long = "." * 100_000
    taken = [ToolIds().call(long, "here")]
    for _ in range(20):
        ids = ToolIds()
        for each in taken:
            ids.call(each, "here")
        taken.append(ids.call(long, "here"))
    assert len(set(taken)) == 21
    hashed.clear()
    ids = ToolIds()
    for each in taken:
        ids.call(each, "here")
    assert ids.call(long, "here") not in taken
    assert len(hashed) >= 21
    assert sum(map(len, hashed)) < 2 * len(long)


def test_calls_with_results_are_forgotten() -> None:
    """Each later turn asks for calls without a result, and looks at nothing that has one."""
    ids = ToolIds()
    for number in range(50):
        ids.call(f"call_{number}", f"messages.{number}")
        ids.result(f"call_{number}")
    assert not ids._open
    ids.call("last", "messages.99")
    assert ids.without_result() == "messages.99"
