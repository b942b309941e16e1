"""Render promtool's tests from `source/tests/`.

promtool compares every label and annotation of an alert. A source states what differs from one case to the next: the
series, the time, the labels and the description with its value. The other annotations come from the rule.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from alerts.rules import SOURCE, Options, alerts, dump, source

CHOOSING_LABELS = ("window", "within")
"""Several rules of one alert differ in these."""


def rule_tests_text(options: Options) -> str:
    """Return promtool's test file. It tests the rules that have no scaled windows."""
    rules = alerts(options)
    tests = [_test(each, rules, options) for each in _sources()]
    return dump({"rule_files": ["platform.yml"], "evaluation_interval": "1m", "tests": tests})


def _sources() -> Iterator[Mapping[str, Any]]:
    for path in sorted((SOURCE / "tests").glob("*.yaml")):
        yield from source(f"tests/{path.name}")


def _test(spec: Mapping[str, Any], rules: list[dict[str, Any]], options: Options) -> dict[str, Any]:
    return {
        "name": spec["name"],
        "interval": "1m",
        "input_series": [
            {"series": _with_job(series, options.job), "values": str(values)}
            for series, values in spec["series"].items()
        ],
        "alert_rule_test": [
            {
                "eval_time": each["at"],
                "alertname": each["alert"],
                "exp_alerts": [_expected(alert, each["alert"], rules) for alert in each.get("firing", [])],
            }
            for each in spec["expect"]
        ],
    }


def _with_job(series: str, job: str) -> str:
    """Add the label job to a series that has none."""
    if re.search(r'\bjob="', series):
        return series
    name, _, labels = series.partition("{")
    return f'{name}{{job="{job}"{", " + labels if labels else "}"}'


def _expected(spec: Mapping[str, Any], name: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    labels = spec.get("labels", {})
    rule = next(rule for rule in rules if rule["alert"] == name and _chosen_by(labels) == _chosen_by(rule["labels"]))
    return {
        "exp_labels": {**rule["labels"], **labels},
        "exp_annotations": {
            **rule["annotations"],
            "description": spec.get("description", rule["annotations"]["description"]),
        },
    }


def _chosen_by(labels: Mapping[str, str]) -> list[str | None]:
    return [labels.get(name) for name in CHOOSING_LABELS]
