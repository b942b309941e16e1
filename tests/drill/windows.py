"""The alert rules and runbook queries with every window divided by the drill's factor."""

import re

import yaml

from tests.support.paths import ROOT

_RANGE = re.compile(r"\[(\d+)([smhd])\]")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_COUNT = re.compile(r"\* (60|300|600|1800|3600|21600|86400|259200)\b")


def scaled_query(query: str, factor: int) -> str:
    """Return the query with its ranges divided by the factor."""
    return _RANGE.sub(lambda match: f"[{_milliseconds(match[0][1:-1], factor)}]", query)


def scaled_rules(factor: int) -> str:
    """Return the text of the rule file with its windows divided by the factor."""
    rules = yaml.safe_load((ROOT / "alerts/platform.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            text = _COUNT.sub(lambda match: f"* {int(match[1]) / factor:g}", scaled_query(rule["expr"], factor))
            rule["expr"] = text.replace(
                '_oldest_unshipped_seconds{job="flowbiz-platform"}) > 300',
                f'_oldest_unshipped_seconds{{job="flowbiz-platform"}}) > {300 / factor:g}',
            )
            if "for" in rule:
                rule["for"] = _milliseconds(rule["for"], factor)
    return yaml.safe_dump(rules)


def _milliseconds(duration: str, factor: int) -> str:
    return f"{int(duration[:-1]) * _SECONDS[duration[-1]] * 1000 // factor}ms"
