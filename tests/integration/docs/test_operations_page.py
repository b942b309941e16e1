"""The operations page, compared with the metrics and log lines of the code; the alert rules, checked by promtool."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.metrics import MetricWrapperBase

from platform_app.observability import metrics
from platform_app.observability.metrics.kinds import Counter, Gauge, Histogram
from tests.support.documents.pages import DOCS, names_in, table
from tests.support.gateway.http import until
from tests.support.gateway.process import Gateway
from tests.support.observability.rule_tests import split_rule_tests
from tests.support.paths import ROOT

OPERATIONS = (DOCS / "operations.md").read_text()
ALERTS = ROOT / "alerts"


def test_operations_page_lists_metrics() -> None:
    def row(metric: MetricWrapperBase) -> tuple[str, str, set[str]]:
        kinds = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}
        kind = kinds[type(metric)]
        return metric._name + ("_total" if kind == "counter" else ""), kind, set(metric._labelnames)

    exposed = [row(metric) for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
    rows = table(OPERATIONS, "| Metric | Type | Labels | Meaning |")
    documented = [(name.strip("`"), kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels, *_ in rows]
    assert sorted(documented, key=str) == sorted(exposed, key=str)


async def test_operations_page_lists_access_line_fields(gateway: Gateway, client: httpx.AsyncClient) -> None:
    def access_line() -> dict[str, Any] | None:
        return next((line for line in gateway.log_lines() if line.get("event") == "request"), None)

    await client.get(f"{gateway.base_url}/v1/models")
    await until(lambda: access_line() is not None)

    documented = {name for row in table(OPERATIONS, "| Field | Meaning |") for name in names_in(row[0])}
    of_every_line = {"timestamp", "level", "component", "event", "request_id", "trace_id", "span_id"}
    assert documented == (access_line() or {}).keys() - of_every_line


def test_operations_page_names_logged_events() -> None:
    """Every event of the table is a text of the code, so that a renamed event is renamed here too."""
    events = {name for row in table(OPERATIONS, "| `event` | Meaning |") for name in names_in(row[0])}
    sources = (path for folder in ("apps", "platform_app") for path in (ROOT / folder).rglob("*.py"))
    texts = {text for path in sources for text in re.findall(r'"(\w+)"', path.read_text())}
    composed = {"breaker_half_open", "breaker_closed"}  # the breaker appends its state to the name
    assert len(events) > 30
    assert events - texts - composed == set()


def test_prometheus_accepts_rules() -> None:
    promtool("check", "rules", "platform.yml")


def test_rules_pass_their_tests(tmp_path: Path) -> None:
    promtool(
        "test", "rules", *map(str, split_rule_tests(ALERTS / "platform.yml", ALERTS / "platform_test.yml", tmp_path))
    )


def promtool(*arguments: str) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    done = subprocess.run(
        ["promtool", *arguments], cwd=ALERTS, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
