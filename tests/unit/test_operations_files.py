"""Alerts, dashboards and runbooks name only what exists: metrics and labels of the code, each other's files."""

import ast
import itertools
import json
import re
from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Gauge, Histogram

from platform_app.config.limits.checks import MODEL_ROUTES
from platform_app.observability import metrics
from platform_app.observability.metrics import zeros
from platform_app.observability.metrics.kinds import FINE_BUCKETS, REQUEST_BUCKETS, STORE_BUCKETS, Counter
from tests.support.paths import ROOT

HEADINGS = ["Meaning", "Impact", "Check", "Mitigate", "Escalate"]
ADDED_BY_PROMETHEUS = {"job", "instance"}
CHOSEN_BY_OPERATORS = ADDED_BY_PROMETHEUS | {"provider", "model", "rule", "host", "file"}
"""Labels whose values stand in a configuration and not in the code."""
CHAT_ROUTES = MODEL_ROUTES - {"/v1/embeddings"}
RECORDED_LABELS = {"job", "slo"}
"""Of every recorded series; a test compares it with the rules."""

_METRIC = re.compile(r"(?<![:\w])((?:platform|gen_ai_client)_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(?:[=!](~)|!=|=)\s*"([^"]*)"')
_ROUTE = re.compile(r'\broute=~?"([^"]*)"')
_BY = re.compile(r"\bby\s*\(([^)]*)\)")
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_LEGEND = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_QUANTILE = re.compile(r"\bhistogram_quantile\(\s*([\d.]+)")
_RECORDED = re.compile(r"\bjob_slo:[\w:]+")
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


def texts() -> set[str]:
    """Every text of the code, and every HTTP status: a label's value is one of them, or the query asks for nothing."""
    found = {str(status.value) for status in HTTPStatus}
    for package in ("platform_app", "apps"):
        for file in (ROOT / package).rglob("*.py"):
            if file.match("observability/metrics/zeros.py"):
                continue  # it repeats values of the code, which a test below compares
            tree = ast.parse(file.read_text(encoding="utf-8"))
            found |= {
                node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and type(node.value) is str
            }
    return found


BUCKETS = {*FINE_BUCKETS, *REQUEST_BUCKETS, *STORE_BUCKETS}
TEXTS = texts()
EXPOSED = exposed()
GROUPS: list[dict[str, Any]] = yaml.safe_load((ROOT / "alerts/platform.yml").read_text())["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDS = {rule["record"] for rule in RULES if "record" in rule}
ALERT_NAMES = sorted({rule["alert"] for rule in ALERTS})
RUNBOOKS = sorted(set((ROOT / "runbooks").glob("*.md")) - {ROOT / "runbooks/README.md"})
ALWAYS_FIRING = {"Watchdog"}
OF_PROMETHEUS = ("up", "ALERTS", "vector(")
"""What a query asks for if it names none of our series."""
PAGES: list[dict[str, Any]] = [json.loads(file.read_text()) for file in sorted((ROOT / "dashboards").glob("*.json"))]
DASHBOARDS: dict[str, list[dict[str, Any]]] = {page["uid"]: page["panels"] for page in PAGES}
"""The panels of each dashboard, by its uid."""
PANELS = [panel for panels in DASHBOARDS.values() for panel in panels]
QUERIES = [target for panel in PANELS for target in panel.get("targets", []) if "expr" in target]
"""Of the panels; the others are SQL."""
ANNOTATIONS = [each for page in PAGES for each in page["annotations"]["list"]]


def queries() -> Iterator[Any]:
    """Every PromQL expression that people and programs are given."""
    for rule in RULES:
        yield pytest.param(rule["expr"], id=f"rule {rule.get('alert') or rule['record']}")
    for panel in PANELS:
        for target in panel.get("targets", []):
            if "expr" in target:
                yield pytest.param(target["expr"], id=f"panel {panel['title']} {target['refId']}")
    for number, annotation in enumerate(ANNOTATIONS):
        yield pytest.param(annotation["expr"], id=f"annotation {annotation['name']} {number}")
    for runbook in sorted((ROOT / "runbooks").rglob("*.md")):
        for number, query in enumerate(_FENCED_QUERY.findall(runbook.read_text())):
            yield pytest.param(query, id=f"runbook {runbook.stem} {number}")


def test_metrics_of_the_code_are_found() -> None:
    assert EXPOSED["platform_http_requests_total"] == {"method", "route", "status"}
    assert "le" in EXPOSED["platform_limiter_duration_seconds_bucket"]


@pytest.mark.parametrize("counter", zeros.ZEROS, ids=lambda counter: str(counter._name))
def test_series_that_start_at_zero_are_set_by_the_code(counter: Counter) -> None:
    series = [(value,) if isinstance(value, str) else value for value in zeros.ZEROS[counter]]
    assert set(itertools.chain(*series)) <= TEXTS
    assert {len(values) for values in series} == {len(counter._labelnames)}


def problems(query: str) -> list[str]:
    """Every name in a query that the code does not have: metrics, recorded series, labels, and labels' values."""
    used = _METRIC.findall(query)
    found = [] if used or _RECORDED.search(query) or any(map(query.__contains__, OF_PROMETHEUS)) else ["no metric"]
    found += [f"no such record: {name}" for name in _RECORDED.findall(query) if name not in RECORDS]
    for name, selector in used:
        if name not in EXPOSED:
            found.append(f"no such metric: {name}")
            continue
        for label, regex, value in _MATCHER.findall(selector):
            if label not in EXPOSED[name] | ADDED_BY_PROMETHEUS:
                found.append(f"{name} has no label {label}")
            elif label == "le":
                found += [] if float(value) in BUCKETS else [f'le="{value}" is not a bucket']
            elif label not in CHOSEN_BY_OPERATORS:
                found += [f'{label}="{part}" is never set' for part in _never_set(value, bool(regex))]
    return found + _grouping_problems(query)


def _never_set(value: str, regex: bool) -> list[str]:
    """The alternatives of a matcher that match no text of the code."""
    if not regex:
        return [] if value in TEXTS else [value]
    return [part for part in value.split("|") if not any(re.fullmatch(part, text) for text in TEXTS)]


def _grouping_problems(query: str) -> list[str]:
    """Labels in `by (…)`, `without (…)`, `on (…)` and the like that a series inside, or a side, does not have."""
    found = []
    for match in _GROUPING.finditer(query):
        word, labels = match[1], {label.strip() for label in match[2].split(",") if label.strip()}
        inside = _operand(query, match) if word in ("by", "without") else query
        for name in {name for name, _ in _METRIC.findall(inside)} & EXPOSED.keys():
            found += [f"{word}: {name} has no label {each}" for each in labels - EXPOSED[name] - ADDED_BY_PROMETHEUS]
        if _RECORDED.search(inside):
            found += [f"{word}: records have no label {each}" for each in labels - RECORDED_LABELS]
        if word == "on":
            kept = [{label.strip() for label in each.split(",")} for each in _BY.findall(query)]
            found += [f"on: {each} is gone on one side" for each in labels for side in kept if each not in side]
    return found


def _operand(query: str, grouping: re.Match[str]) -> str:
    """What `sum by (…) (operand)` or `sum(operand) by (…)` aggregates."""
    after = query[grouping.end() :].lstrip()
    if after.startswith("("):
        return after[: _closing(after, "(", ")")]
    before = query[: grouping.start()].rstrip()[::-1]
    return before[: _closing(before, ")", "(")][::-1]


def _closing(text: str, opens: str, closes: str) -> int:
    depth = 0
    for position, character in enumerate(text):
        depth += (character == opens) - (character == closes)
        if depth == 0:
            return position
    raise AssertionError(f"unbalanced parentheses: {text}")


@pytest.mark.parametrize("query", list(queries()))
def test_query_uses_existing_metrics_labels_and_records(query: str) -> None:
    assert problems(query) == []


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("sum(rate(platform_nothing_total[5m]))", "platform_nothing_total"),
        ('sum(platform_auth_total{result="stale"})', "result"),
        ('sum(platform_auth_total{outcome="stail"})', "stail"),
        ('sum(platform_auth_total{outcome=~"stale|stail"})', "stail"),
        ('sum(platform_http_requests_total{status=~"8.."})', "8.."),
        ('sum(platform_http_requests_total{route!~"/livez|/livzz"})', "/livzz"),
        ("sum by (rout) (rate(platform_http_requests_total[5m]))", "rout"),
        ("sum(rate(platform_http_requests_total[5m])) by (rout)", "rout"),
        ("max without (provider) (platform_limiter_degraded)", "provider"),
        ("sum by (route) (job_slo:events:rate5m)", "route"),
        ("job_slo:events:rate7m", "rate7m"),
        ('sum(platform_overhead_seconds_bucket{le="0.03"})', "0.03"),
        ("platform_provider_slots / on (slot) platform_provider_slots_in_use", "slot"),
        (
            "sum by (job) (platform_provider_slots) / on (provider) sum by (provider) (platform_provider_slots_in_use)",
            "provider",
        ),
    ],
)
def test_query_check_finds_each_kind_of_wrong_name(query: str, names: str) -> None:
    assert any(names in problem for problem in problems(query))


@pytest.mark.parametrize("rule", [rule for rule in RULES if "record" in rule], ids=lambda rule: str(rule["record"]))
def test_recorded_series_have_their_labels(rule: dict[str, Any]) -> None:
    grouped = {label.strip() for each in _BY.findall(rule["expr"]) for label in each.split(",")}
    assert grouped <= {"job"}
    assert grouped | rule["labels"].keys() >= {"slo"}


def grouping_problems(query: str, legend: str) -> list[str]:
    """Say where the grouping of a panel's query does not fit its legend, or a quantile lacks its buckets."""
    shown = set(_LEGEND.findall(legend))
    found = []
    for group in _BY.findall(query):
        labels = {label.strip() for label in group.split(",")}
        if labels - {"le"} != shown:
            found.append(f"grouped by {sorted(labels)}, and the legend shows {sorted(shown)}")
        if "histogram_quantile" in query and "le" not in labels:
            found.append("a quantile needs the label le")
    return found


def test_panel_grouping_equals_its_legend() -> None:
    """A wrong or missing grouping label draws lines that the legend names wrongly."""
    assert {
        f"{panel['title']}: {problem}"
        for panel in PANELS
        for target in panel.get("targets", [])
        if "expr" in target
        for problem in grouping_problems(target["expr"], target.get("legendFormat", ""))
    } == set()


def test_annotation_grouping_equals_its_title() -> None:
    assert ANNOTATIONS
    assert [
        problem
        for annotation in ANNOTATIONS
        for problem in grouping_problems(annotation["expr"], annotation["titleFormat"])
    ] == []


def test_panel_names_its_quantile() -> None:
    """In the legend if a panel shows several, otherwise in its title."""
    named = {
        (panel["title"], quantile): f"p{float(quantile) * 100:g}" in f"{panel['title']} {target['legendFormat']}"
        for panel in PANELS
        for target in panel.get("targets", [])
        if "expr" in target
        for quantile in _QUANTILE.findall(target["expr"])
    }
    assert named
    assert [panel for panel, is_named in named.items() if not is_named] == []


@pytest.mark.parametrize(
    ("query", "legend"),
    [
        ("sum by (status) (rate(platform_http_requests_total[5m]))", "{{route}}"),
        ("sum by (route, status) (rate(platform_http_requests_total[5m]))", "{{route}}"),
        (
            "histogram_quantile(0.5, sum by (route) (rate(platform_http_request_duration_seconds_bucket[5m])))",
            "{{route}}",
        ),
    ],
)
def test_grouping_check_finds_wrong_labels(query: str, legend: str) -> None:
    assert grouping_problems(query, legend)


def test_query_on_a_chat_route_covers_all_chat_routes() -> None:
    """Clients use every format, so a query on some of the chat routes does not see the others."""
    routes = [set(value.split("|")) for query in queries() for value in _ROUTE.findall(query.values[0])]
    chosen = [each & CHAT_ROUTES for each in routes if each & CHAT_ROUTES]
    assert chosen
    assert [each for each in chosen if each != CHAT_ROUTES] == []


def test_every_metric_is_on_a_dashboard() -> None:
    text = " ".join(target["expr"] for target in QUERIES)
    shown = {name for name, _ in _METRIC.findall(text)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in EXPOSED}
    assert families == {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}


@pytest.mark.parametrize("rule", ALERTS, ids=[f"{r['alert']}-{r['labels'].get('window', '')}" for r in ALERTS])
def test_alert_has_severity_texts_and_links(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket", "watchdog"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url", "dashboard_url"}
    assert rule["annotations"]["runbook_url"] == f"runbooks/{rule['alert']}.md"
    uid, _, panel = rule["annotations"]["dashboard_url"].removeprefix("/d/").partition("?viewPanel=")
    (linked,) = [each for each in DASHBOARDS[uid] if each["id"] == int(panel)]
    assert linked["type"] != "row"
    links = " ".join(link["url"] for link in linked.get("links", []))
    assert f"/{rule['alert']}.md" in links or rule["alert"] == "Watchdog"
    assert f"Dashboard: `$GRAFANA/d/{uid}`" in (ROOT / f"runbooks/{rule['alert']}.md").read_text()


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert [runbook.stem for runbook in RUNBOOKS] == ALERT_NAMES


@pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda path: path.stem)
def test_runbook_has_its_five_parts(runbook: Path) -> None:
    text = runbook.read_text()
    assert text.startswith(f"# {runbook.stem}\n")
    parts = re.split(r"^## (.+)$", text, flags=re.M)
    assert parts[1::2] == HEADINGS
    assert all(part.strip() for part in parts[2::2])
    for name in re.findall(r"[Rr]unbooks? ([A-Z]\w+)|treat as (\w+)|, (Provider\w+)", text):
        assert set(name) & set(ALERT_NAMES), f"{name} is no runbook"


@pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda path: path.stem)
def test_runbook_begins_with_its_severities(runbook: Path) -> None:
    """In the order of urgency: who reads it at night sees first whether it can wait."""
    found = {rule["labels"]["severity"] for rule in ALERTS if rule["alert"] == runbook.stem}
    shown = " or ".join(f"`{each}`" for each in ("page", "ticket", "watchdog") if each in found)
    assert f"\n\nSeverity: {shown}. Dashboard: " in runbook.read_text()


@cache
def alert_tests() -> list[dict[str, Any]]:
    """Return promtool's tests of the alerts; reading them takes a third of a second."""
    tests: list[dict[str, Any]] = yaml.safe_load((ROOT / "alerts/platform_test.yml").read_text())["tests"]
    return tests


@pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda path: path.stem)
def test_runbook_shows_changes_then_query_then_fix(runbook: Path) -> None:
    """The first block of the check is a query, which test_expressions.py executes on a real Prometheus."""
    text = runbook.read_text()
    changes = text.index("First: [what changed?](README.md#what-changed)")
    check, fix = text.index("\n## Check\n"), text.index("\n## Mitigate\n")
    blocks = re.findall(r"^```(\w+)\n", text[check:fix], re.M)
    assert changes < check
    assert blocks[0] == "promql"
    assert "\n## What changed?\n" in (ROOT / "runbooks/README.md").read_text()


@pytest.mark.parametrize("name", ALERT_NAMES)
def test_every_alert_is_tested_firing_and_quiet(name: str) -> None:
    checks = [check for test in alert_tests() for check in test["alert_rule_test"] if check["alertname"] == name]
    assert {bool(check["exp_alerts"]) for check in checks} == ({True} if name in ALWAYS_FIRING else {True, False})
