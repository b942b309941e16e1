"""Prometheus and Alertmanager accept the examples, and each alert reaches its receiver."""

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from alerts.rules import Options, alerts
from tests.support.paths import ROOT

ALERTMANAGER = ROOT / "alerts/alertmanager.example.yml"
RECEIVERS = {"page": "page", "ticket": "ticket", "watchdog": "deadman"}
ALERTS = alerts(Options())
NAMES = {rule["alert"] for rule in ALERTS}


def _run(*command: str) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed (Debian: apt-get install prometheus prometheus-alertmanager)")
    done = subprocess.run(command, cwd=ROOT / "alerts", capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _inhibitions() -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = yaml.safe_load(ALERTMANAGER.read_text())["inhibit_rules"]
    return rules


def _matches(labels: dict[str, str], matchers: list[str]) -> bool:
    """Whether labels fulfil all matchers, as Alertmanager decides it."""
    for matcher in matchers:
        name, operator, value = re.fullmatch(r'(\w+)(=~|!~|!=|=)"(.*)"', matcher).groups()  # type: ignore[union-attr]
        own = labels.get(name, "")
        found = bool(re.fullmatch(value, own)) if "~" in operator else own == value
        if found == operator.startswith("!"):
            return False
    return True


def _inhibited(target: dict[str, str], source: dict[str, str]) -> bool:
    return any(
        _matches(source, rule["source_matchers"])
        and _matches(target, rule["target_matchers"])
        and all(source.get(label, "") == target.get(label, "") for label in rule["equal"])
        for rule in _inhibitions()
    )


def test_promtool_accepts_configuration() -> None:
    assert "SUCCESS" in _run("promtool", "check", "config", "prometheus.example.yml")


def test_amtool_accepts_configuration() -> None:
    assert "SUCCESS" in _run("amtool", "check-config", str(ALERTMANAGER))


@pytest.mark.parametrize("severity", sorted(RECEIVERS))
def test_alert_is_routed_by_severity(severity: str) -> None:
    assert severity in {rule["labels"]["severity"] for rule in ALERTS}
    test = ("amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", f"severity={severity}")
    assert _run(*test).strip() == RECEIVERS[severity]


def test_inhibitions_name_existing_alerts() -> None:
    named = re.findall(r'alertname!?=~?"([^"]+)"', " ".join(str(rule).replace("'", " ") for rule in _inhibitions()))
    assert {name for each in named for name in each.split("|")} <= NAMES


@pytest.mark.parametrize("cause", sorted(NAMES - {"GatewayDown", "ModelFailing"}))
def test_failing_model_is_inhibited_by_no_other_alert(cause: str) -> None:
    """Except by GatewayDown, which pages too and includes it."""
    common = {"job": "flowbiz-platform", "instance": "a:9100", "provider": "alpha", "model": "one", "window": "1h"}
    target = {**common, "alertname": "ModelFailing", "severity": "page", "window": "5m"}
    assert not _inhibited(target, {**common, "alertname": cause})


def test_slow_burn_is_inhibited_by_fast_burn_of_its_objective() -> None:
    fast = {"job": "j", "alertname": "GatewayErrorBudgetBurn", "slo": "availability", "window": "1h"}
    assert _inhibited({**fast, "window": "3d"}, fast)
    assert not _inhibited({**fast, "window": "3d", "slo": "overhead", "alertname": "GatewayOverheadBudgetBurn"}, fast)


def test_instance_down_inhibits_its_tickets_alone() -> None:
    down = {"job": "j", "instance": "a", "alertname": "GatewayInstanceDown", "severity": "ticket"}
    behind = {"job": "j", "instance": "a", "alertname": "EventLoopLagHigh", "severity": "ticket"}
    assert _inhibited(behind, down)
    assert not _inhibited({**behind, "instance": "b"}, down)
    assert not _inhibited(down, down)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_watchdog_is_never_inhibited(name: str) -> None:
    assert not _inhibited(
        {"job": "flowbiz-platform", "alertname": "Watchdog", "severity": "watchdog"},
        {"job": "flowbiz-platform", "alertname": name, "severity": "page"},
    )
