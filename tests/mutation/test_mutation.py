"""The mutation runner finds faults, its lists match the code, and some faults of the list are tried for real."""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.mutation import scores, survivors, targets
from tests.mutation.faults import python_faults, text_faults
from tests.mutation.faults.named_faults import NamedFault, named_faults
from tests.mutation.report import GOAL
from tests.mutation.runs.workshop import ModuleBench, Workshop, open_workshop

FAULTS = named_faults()


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    """A copy of the tree for the faults of this module."""
    with open_workshop() as opened:
        yield opened


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_named_fault_matches_the_code(fault: NamedFault) -> None:
    fault.mutant()


@pytest.mark.proof
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.quick], ids=lambda fault: fault.name)
def test_named_fault_is_caught(fault: NamedFault, workshop: Workshop) -> None:
    """The other faults of the list are tried by `make mutation`."""
    assert workshop.run_named(fault).caught


def test_targets_exist() -> None:
    assert all(targets.tests_of(module) for module in targets.modules())
    assert targets.texts()


def test_survivors_are_of_target_modules() -> None:
    assert {path for path, *_ in survivors.explained()} <= {*targets.modules(), *targets.texts()}


def test_scores_are_of_target_modules_and_reach_the_goal() -> None:
    found = scores.read()
    assert set(found) <= {*targets.modules(), *targets.texts()}
    assert scores.caught_share(sum(found.values(), Counter())) >= GOAL


def test_python_mutants_change_one_thing_each() -> None:
    source = "def f(a, b):\n    if a < b and not a:\n        g(a)\n    return a + 1\n"
    assert [mutant.change for mutant in python_faults.mutants("f.py", source)] == [
        "if a < b and not a → if not",
        "a < b (< → <=)",
        "a < b (< → >=)",
        "a < b and not a (and → or)",
        "not a → a",
        "g(a) → pass",
        "return a + 1 → return None",
        "a + 1 (+ → -)",
        "1 → 1 + 1",
        "1 → 1 - 1",
    ]


def test_python_mutants_leave_texts_and_types_alone() -> None:
    source = 'X: int | None\n\n\n@d(1)\ndef f(a: int | None) -> None:\n    """1 < 2."""\n    _log.error(f"{a + 1}")\n'
    assert python_faults.mutants("f.py", source) == []


def test_lua_mutants_leave_comments_alone() -> None:
    source = "-- a < b\nif a < b then\n  call('DEL', key)\nend\n"
    changes = [mutant.change for mutant in text_faults.lua_mutants("f.lua", source)]
    assert changes == ["if a < b then (< → <=)", "call('DEL', key) (call('DEL', key) → do end)"]


def test_live_exchange_catches_a_fault(workshop: Workshop) -> None:
    """A fault that the module's tests see, one that they do not, and one of a line that no test reaches."""
    path = "platform_app/auth/permissions.py"
    source = (workshop.tree / path).read_text()
    mutants = python_faults.mutants(path, source)
    caught = next(mutant for mutant in mutants if mutant.change.startswith("return sorted"))
    bench = ModuleBench(workshop, path, ["tests/unit/platform_app/auth/test_permissions.py"])
    try:
        assert caught.live
        assert bench.run(caught).how == "failed"
    finally:
        bench.close()
