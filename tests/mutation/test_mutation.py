"""The mutation runner finds faults, its lists match the code, and some faults of the list are tried for real."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutation import scores, survivors, targets
from tests.mutation.faults import python_faults, text_faults
from tests.mutation.faults.named_faults import NamedFault, named_faults
from tests.mutation.report import GOAL
from tests.mutation.runs.workshop import ModuleBench, Workshop, open_workshop
from tests.support.paths import ROOT

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


def test_alert_mutants_change_thresholds_and_waiting_times() -> None:
    source = """
groups:
  - name: g
    rules:
      - alert: A
        expr: |
          sum by (job) (a{b=" > 1"}) > 50e6 and c == 0
        for: 5m
"""
    found = text_faults.alert_mutants("f.yml", source)
    assert [mutant.change.rpartition("job) (")[2].rpartition("c == 0 ")[2] for mutant in found] == [
        "(> → <)", "(50e6 → (50e6 * 2))", "(50e6 → (50e6 / 2))", "(and → unless)", "(== 0 → > 0)",
        "for: 5m halved", "for: 5m doubled",
    ]  # fmt: skip
    assert {mutant.place for mutant in found} == {"A"}


def test_dashboard_mutants_change_each_label_and_quantile() -> None:
    """In the file the title of a panel comes after its queries."""
    query = "histogram_quantile(0.99, sum by (le, route) (rate(x_bucket[5m])))"
    page = {"annotations": {"list": [{"expr": "sum by (v) (y)", "name": "N"}]}}
    page["panels"] = [{"targets": [{"expr": query}], "title": "T"}]  # type: ignore[assignment]  # another type of list
    found = text_faults.dashboard_mutants("f.json", json.dumps(page, indent=2))
    assert [(mutant.place, mutant.change.rpartition(" (")[2]) for mutant in found] == [
        ("N", "v → v_gone)"), ("T", "0.99 → 0.5)"), ("T", "le → le_gone)"), ("T", "route → route_gone)")
    ]  # fmt: skip


@pytest.mark.parametrize("path", targets.texts())
def test_every_text_has_mutants(path: str) -> None:
    make = {".lua": text_faults.lua_mutants, ".yml": text_faults.alert_mutants, ".json": text_faults.dashboard_mutants}
    assert make[Path(path).suffix](path, (ROOT / path).read_text())


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
