"""The generated files equal their sources, and the options change what they say."""

from pathlib import Path

import pytest
import yaml

from alerts import generate
from alerts.durations import scaled_expression, seconds
from alerts.rules import Options, alerts, rules_text

PAGES = {
    *("AuthStale", "AuthUnavailable", "CertificateExpiring", "GatewayDown", "GatewayErrorBudgetBurn"),
    *("GatewayOverheadHigh", "GatewayWithoutWorkers", "LedgerLosing", "LimiterClosed", "ModelFailing"),
    *("SecretsStale", "SpoolNearBound"),
}
"""What clients feel, or will feel within hours without an operator. Everything else is a ticket."""


def test_generated_files_equal_their_sources() -> None:
    assert list(generate.stale(Options())) == []
    assert generate.main(["--check"]) == 0


def test_check_names_file_that_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "alerts").mkdir()
    (tmp_path / "alerts/platform.yml").write_text("groups: []\n")
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    assert generate.main(["--check"]) == 1
    assert "alerts/platform.yml differs" in capsys.readouterr().err


def test_pages_are_what_clients_feel() -> None:
    assert {rule["alert"] for rule in alerts(Options()) if rule["labels"]["severity"] == "page"} == PAGES


def test_scale_divides_windows_durations_and_seconds() -> None:
    text = "rate(a[5m]) * ${seconds:1h} > 300 and b offset 3h"
    assert scaled_expression(text, 60) == "rate(a[5s]) * 60 > 300 and b offset 180s"
    assert scaled_expression("rate(a[5m])", 40) == "rate(a[7500ms])"
    assert scaled_expression(text, 1) == "rate(a[5m]) * 3600 > 300 and b offset 3h"


def test_scaled_rules_keep_names_and_thresholds() -> None:
    once, scaled = alerts(Options()), alerts(Options(scale=60))
    assert [rule["alert"] for rule in once] == [rule["alert"] for rule in scaled]
    assert [rule["annotations"] for rule in once] == [rule["annotations"] for rule in scaled]
    burn = next(rule for rule in scaled if rule["alert"] == "GatewayErrorBudgetBurn")
    assert burn["for"] == "2s"
    assert "job_slo:errors:rate1h" in burn["expr"]
    assert "* 60 >= 10" in burn["expr"]


def test_options_replace_job_and_links() -> None:
    options = Options(job="gateway", runbooks="https://git.example/runbooks", grafana="https://grafana.example")
    text = rules_text(options)
    assert "flowbiz-platform" not in text.replace("name: flowbiz-platform-", "")
    annotations = yaml.safe_load(text)["groups"][1]["rules"][0]["annotations"]
    assert annotations["runbook_url"] == "https://git.example/runbooks/ModelFailing.md"
    assert annotations["dashboard_url"] == "https://grafana.example/d/flowbiz-overview?viewPanel=14"


def test_options_need_an_output_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--scale", "60"]) == 2
    assert "--output" in capsys.readouterr().err


@pytest.mark.parametrize("duration", ["5", "m", "1.5h", "1w", ""])
def test_duration_without_whole_number_and_unit_is_refused(duration: str) -> None:
    with pytest.raises(ValueError, match="write a whole number"):
        seconds(duration)
