"""The edges of the alert rules: for each, just more than its threshold and just less, and when it fires first.

promtool evaluates each rule alone, without the recorded series that it reads: these are given as input.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from alerts.durations import seconds
from tests.support.paths import ROOT

SOURCE = ROOT / "tests/integration/observability/alert_edges"
JOB = "flowbiz-platform"
STEP_SECONDS = 30
"""Between two evaluations: the shortest `for` is a minute."""
MORE, LESS = 1.2, 0.7
"""A value above a threshold and below its double, and one below it and above its half."""

Rule = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Edge:
    """Series, and whether an alert fires on them."""

    alert: str
    labels: Mapping[str, str]
    """Of the rule: they choose one of several rules with the same name."""
    name: str
    series: Mapping[str, str]
    """Values by series, a sample a minute, as promtool writes them. The label job is added."""
    seconds: int
    fires: bool
    """True: it fires at `seconds`, and not `STEP_SECONDS` before. False: it does not fire at `seconds`."""


def edges() -> list[Edge]:
    """Return the edges of all alerts."""
    return [*_written(), *_burn_rates()]


def rules(text: str) -> list[Rule]:
    """Return the alerts of a rule file."""
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"] if "alert" in rule]


def write_edge_tests(rules: Sequence[Rule], edges: Sequence[Edge], directory: Path) -> Iterator[Path]:
    """Write a file of promtool's tests for each rule, and yield it. A rule without an edge has none."""
    for number, rule in enumerate(rules):
        own = [edge for edge in edges if chooses(edge, rule)]
        if not own:
            continue
        name = f"edge-rule-{number}.yml"
        (directory / name).write_text(yaml.safe_dump({"groups": [{"name": "edges", "rules": [dict(rule)]}]}))
        file = directory / f"edges-{number}.yml"
        tests = [_test(edge) for edge in own]
        document = {"rule_files": [name], "evaluation_interval": f"{STEP_SECONDS}s", "tests": tests}
        file.write_text(yaml.safe_dump(document, sort_keys=False))
        yield file


def chooses(edge: Edge, rule: Rule) -> bool:
    """Return whether an edge is one of this rule."""
    return bool(edge.alert == rule["alert"] and edge.labels.items() <= rule["labels"].items())


def _written() -> Iterator[Edge]:
    for path in sorted(SOURCE.glob("*.yaml")):
        if path.stem == "burn_rates":
            continue
        for rule in yaml.safe_load(path.read_text()):
            labels = {name: rule[name] for name in ("window", "within") if name in rule}
            for case in rule["cases"]:
                at = case.get("first") or case["quiet"]
                yield Edge(rule["alert"], labels, case["name"], case["series"], _seconds(at), "first" in case)


def _burn_rates() -> Iterator[Edge]:
    for row in yaml.safe_load((SOURCE / "burn_rates.yaml").read_text()):
        first, share, failures = _seconds(row["first"]), row["share"], row["failures"]

        def edge(
            name: str, long: float, short: float, count: float, row: Mapping[str, Any] = row, at: int = first
        ) -> Edge:
            rate = count / seconds(row["window"])
            series = {
                **_recorded("errors", row["window"], row["slo"], rate),
                **_recorded("events", row["window"], row["slo"], rate / long),
                **_recorded("errors", row["short"], row["slo"], rate),
                **_recorded("events", row["short"], row["slo"], rate / short),
            }
            return Edge(row["alert"], {"window": row["window"]}, name, series, at, name == "fires")

        yield edge("fires", share * MORE, share * MORE, failures * MORE)
        yield edge("few in the long window", share * LESS, share * MORE, failures * MORE)
        yield edge("few in the short window", share * MORE, share * LESS, failures * MORE)
        yield edge("few failures", share * MORE, share * MORE, failures * LESS)


def _recorded(name: str, window: str, slo: str, value: float) -> dict[str, str]:
    return {f'job_slo:{name}:rate{window}{{slo="{slo}"}}': f"{value!r}x90"}


def _test(edge: Edge) -> dict[str, Any]:
    times = [(edge.seconds - STEP_SECONDS, 0), (edge.seconds, 1)] if edge.fires else [(edge.seconds, 0)]
    return {
        "name": f"{edge.alert} {' '.join(edge.labels.values())}: {edge.name}",
        "interval": "1m",
        "input_series": [{"series": _with_job(each), "values": values} for each, values in edge.series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{edge.alert}", alertstate="firing"}}) or vector(0)',
                "eval_time": f"{at}s",
                "exp_samples": [{"labels": "{}", "value": count}],
            }
            for at, count in times
            if at >= 0
        ],
    }


def _with_job(series: str) -> str:
    name, _, labels = series.partition("{")
    return f'{name}{{job="{JOB}"{", " + labels if labels else "}"}'


def _seconds(duration: str) -> int:
    """Return the seconds of a duration such as `3h30m`."""
    total, number = 0, ""
    for character in str(duration):
        if character.isdigit():
            number += character
        else:
            total, number = total + seconds(number + character), ""
    return total
