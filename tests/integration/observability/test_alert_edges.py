"""Each alert fires just above its threshold and not just below, and not before its `for` has passed."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.support.observability.alert_edges import Edge, Rule, chooses, edges, rules, write_edge_tests
from tests.support.paths import ROOT

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: apt-get install prometheus)"
)

RULES = rules((ROOT / "alerts/platform.yml").read_text())
EDGES = edges()


def edges_missed(directory: Path, rules: list[Rule], edges: list[Edge]) -> str:
    """Return what promtool finds; empty if all is as expected."""
    return promtool(*write_edge_tests(rules, edges, directory))


def promtool(*files: Path) -> str:
    """Run the tests of these files, and return what promtool finds."""
    done = subprocess.run(
        ["promtool", "test", "rules", *map(str, files)], capture_output=True, text=True, timeout=500, check=False
    )
    lines = (done.stdout + done.stderr).splitlines()
    said = [line for line in lines if line.strip() and "SUCCESS" not in line and "Unit Testing" not in line]
    assert bool(said) == bool(done.returncode), done
    return "\n".join(said)


def test_alerts_fire_at_their_edges(tmp_path: Path) -> None:
    assert edges_missed(tmp_path, RULES, EDGES) == ""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule['alert']} {rule['labels'].get('window', '')}")
def test_every_rule_has_an_edge_where_it_fires(rule: Rule) -> None:
    assert any(edge.fires for edge in EDGES if chooses(edge, rule))


def test_every_edge_is_one_of_exactly_one_rule() -> None:
    assert [edge for edge in EDGES if sum(chooses(edge, rule) for rule in RULES) != 1] == []


def test_edge_that_is_wrong_is_found(tmp_path: Path) -> None:
    """One evaluation later, or firing where it is quiet: promtool must say so."""
    late = [replace(edge, seconds=edge.seconds + 60) for edge in EDGES if edge.alert == "SchemaNotAtHead"]
    assert "SchemaNotAtHead" in edges_missed(tmp_path, RULES, late)
    quiet = [replace(edge, fires=True) for edge in EDGES if edge.alert == "LedgerBehind" and not edge.fires]
    assert "LedgerBehind" in edges_missed(tmp_path, RULES, quiet)


@pytest.mark.parametrize(("slo", "budget"), [("availability", 0.001), ("overhead", 0.01), ("providers", 0.001)])
def test_error_budget_left_is_the_unspent_share(slo: str, budget: float, tmp_path: Path) -> None:
    """Also with less than one event in all. Without an event there is no share."""
    name = "job_slo:error_budget_left:ratio30d"
    [rule] = [rule for rule in every_rule() if rule.get("record") == name and rule["labels"]["slo"] == slo]
    (tmp_path / "rule.yml").write_text(yaml.safe_dump({"groups": [{"name": "budget", "rules": [rule]}]}))
    labels = f'job="flowbiz-platform", slo="{slo}"'
    cases = {0.0: [], 0.01: [0.6], 20.0: [0.6]}
    tests = [
        {
            "name": f"{rate} events a second",
            "interval": "1m",
            "input_series": [
                {"series": f"job_slo:events:rate5m{{{labels}}}", "values": f"{rate!r}x20"},
                {"series": f"job_slo:errors:rate5m{{{labels}}}", "values": f"{rate * budget * 0.4!r}x20"},
            ],
            "promql_expr_test": [
                {
                    "expr": f"round({name}, 0.001)",
                    "eval_time": "20m",
                    "exp_samples": [{"labels": f"{{{labels}}}", "value": share} for share in shares],
                }
            ],
        }
        for rate, shares in cases.items()
    ]
    (tmp_path / "tests.yml").write_text(
        yaml.safe_dump({"rule_files": ["rule.yml"], "evaluation_interval": "1m", "tests": tests})
    )
    assert promtool(tmp_path / "tests.yml") == ""


def every_rule() -> list[Rule]:
    groups = yaml.safe_load((ROOT / "alerts/platform.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]
