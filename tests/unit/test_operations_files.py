"""Alerts, dashboards and runbooks name only what exists: metrics and labels of the code, each other's files."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram

from platform_app.observability import metrics

ROOT = Path(__file__).resolve().parents[2]
HEADINGS = ["Meaning", "Impact", "Check", "Mitigate", "Escalate"]
ADDED_BY_PROMETHEUS = {"job", "instance"}

_METRIC = re.compile(r"(?<![:\w])(platform_\w+)(?:\{([^}]*)\})?")
_LABEL = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')
_RECORDED = re.compile(r"\bjob:[\w:]+")
_FENCED_QUERY = re.compile(r"^```promql\n(.*?)^```", re.M | re.S)


def exposed() -> dict[str, set[str]]:
    """Every series name that /metrics can show, with its labels."""
    names: dict[str, set[str]] = {}
    for metric in vars(metrics).values():
        match metric:
            case Counter():
                names[f"{metric._name}_total"] = set(metric._labelnames)
            case Gauge():
                names[metric._name] = set(metric._labelnames)
            case Histogram():
                for suffix in ("sum", "count"):
                    names[f"{metric._name}_{suffix}"] = set(metric._labelnames)
                names[f"{metric._name}_bucket"] = {*metric._labelnames, "le"}
            case _:
                pass
    return names


EXPOSED = exposed()
GROUPS: list[dict[str, Any]] = yaml.safe_load((ROOT / "alerts/platform.yml").read_text())["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDS = {rule["record"] for rule in RULES if "record" in rule}
ALERT_NAMES = sorted({rule["alert"] for rule in ALERTS})
RUNBOOKS = sorted((ROOT / "runbooks").glob("*.md"))
PANELS: list[dict[str, Any]] = json.loads((ROOT / "dashboards/platform.json").read_text())["panels"]


def queries() -> Iterator[Any]:
    """Every PromQL expression that people and programs are given."""
    for rule in RULES:
        yield pytest.param(rule["expr"], id=f"rule {rule.get('alert') or rule['record']}")
    for panel in PANELS:
        for target in panel.get("targets", []):
            yield pytest.param(target["expr"], id=f"panel {panel['title']} {target['refId']}")
    for runbook in RUNBOOKS:
        for number, query in enumerate(_FENCED_QUERY.findall(runbook.read_text())):
            yield pytest.param(query, id=f"runbook {runbook.stem} {number}")


def test_the_code_has_the_metrics_that_this_file_compares_with() -> None:
    assert EXPOSED["platform_http_requests_total"] == {"method", "route", "status"}
    assert "le" in EXPOSED["platform_limiter_duration_seconds_bucket"]


@pytest.mark.parametrize("query", list(queries()))
def test_a_query_uses_metrics_labels_and_records_that_exist(query: str) -> None:
    used = _METRIC.findall(query)
    assert used or _RECORDED.search(query) or "up" in query, "the query asks for nothing of ours"
    for name, selector in used:
        assert name in EXPOSED, f"{name} is not a metric of the code"
        unknown = set(_LABEL.findall(selector)) - EXPOSED[name] - ADDED_BY_PROMETHEUS
        assert not unknown, f"{name} has no label {unknown}"
    assert set(_RECORDED.findall(query)) <= RECORDS


def test_every_metric_is_on_the_dashboard() -> None:
    text = " ".join(target["expr"] for panel in PANELS for target in panel.get("targets", []))
    shown = {name for name, _ in _METRIC.findall(text)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in EXPOSED}
    assert families == {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    ids = [panel["id"] for panel in PANELS]
    assert len(ids) == len(set(ids))
    cells: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in own) < 24
        assert not own & cells, panel["title"]
        cells |= own


@pytest.mark.parametrize("rule", ALERTS, ids=[f"{r['alert']}-{r['labels'].get('window', '')}" for r in ALERTS])
def test_an_alert_says_how_urgent_it_is_and_where_to_look(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"runbooks/{rule['alert']}.md"


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert [runbook.stem for runbook in RUNBOOKS] == ALERT_NAMES


@pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda path: path.stem)
def test_a_runbook_has_its_five_parts(runbook: Path) -> None:
    text = runbook.read_text()
    assert text.startswith(f"# {runbook.stem}\n")
    parts = re.split(r"^## (.+)$", text, flags=re.M)
    assert parts[1::2] == HEADINGS
    assert all(part.strip() for part in parts[2::2])
    for name in re.findall(r"[Rr]unbooks? (\w+)|treat as (\w+)|, (Provider\w+)", text):
        assert set(name) & set(ALERT_NAMES), f"{name} is no runbook"


@pytest.mark.parametrize("name", ALERT_NAMES)
def test_every_alert_is_tested_firing_and_quiet(name: str) -> None:
    tests = yaml.safe_load((ROOT / "alerts/platform_test.yml").read_text())["tests"]
    checks = [check for test in tests for check in test["alert_rule_test"] if check["alertname"] == name]
    assert {bool(check["exp_alerts"]) for check in checks} == {True, False}
