"""promtool's tests of the alert rules, each with the rule groups that it depends on.

promtool evaluates every loaded rule at every step of every test. Most tests concern one small group, and the group of
the objectives has more rules than all others together.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def split_rule_tests(rules: Path, tests: Path, directory: Path) -> Iterator[Path]:
    """Write the tests into one file per set of rule groups, and yield the files. No test and no group is changed."""
    groups = {group["name"]: group for group in yaml.safe_load(rules.read_text())["groups"]}
    specification = yaml.safe_load(tests.read_text())
    assert specification["rule_files"] == [rules.name]
    by_groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for test in specification["tests"]:
        by_groups.setdefault(_groups_of(test, groups), []).append(test)
    for number, (names, own) in enumerate(by_groups.items()):
        file = directory / f"rules-{number}.yml"
        file.write_text(yaml.safe_dump({"groups": [groups[name] for name in names]}))
        file = directory / f"tests-{number}.yml"
        file.write_text(yaml.safe_dump({**specification, "rule_files": [f"rules-{number}.yml"], "tests": own}))
        yield file


def _groups_of(test: Mapping[str, Any], groups: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the groups with the alerts of a test, and those that record a metric which these groups read."""
    assert test.keys() <= {"name", "interval", "input_series", "alert_rule_test"}, "a form of test that names no alert"
    alerts = {case["alertname"] for case in test["alert_rule_test"]}
    found = {name for name, group in groups.items() if alerts & set(_names(group, "alert"))}
    assert alerts <= {alert for name in found for alert in _names(groups[name], "alert")}, "an alert without a rule"
    while True:
        read = {metric for name in found for text in _names(groups[name], "expr") for metric in _METRIC.findall(text)}
        needed = found | {name for name, group in groups.items() if read & set(_names(group, "record"))}
        if needed == found:
            return tuple(name for name in groups if name in found)
        found = needed


def _names(group: Mapping[str, Any], field: str) -> list[str]:
    return [rule[field] for rule in group["rules"] if field in rule]
