"""Render the rules: recorded series and alerts of each objective, then all other alerts."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from alerts.durations import scaled, scaled_expression, seconds

SOURCE = Path(__file__).parent / "source"
HEAD = "# Generated from alerts/source by `python -m alerts.generate`. Edit the sources.\n"
BUDGET_WINDOW = "30d"

DASHBOARDS = Path(__file__).parents[1] / "dashboards"

type_of_rule = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """What differs between installations, and the factor that shortens time for drills."""

    scale: int = 1
    job: str = "flowbiz-platform"
    runbooks: str = "runbooks"
    grafana: str = ""


class _Block(str):
    """A text that YAML shows as a block."""


class _Dumper(yaml.SafeDumper):
    """Writes expressions as blocks, repeats values instead of naming them, and indents lists."""

    def ignore_aliases(self, data: object) -> bool:
        """Repeat equal values."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists in mappings too."""
        super().increase_indent(flow, False)


_Dumper.add_representer(_Block, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|"))


def dump(document: Mapping[str, Any]) -> str:
    """Return a document as YAML, with one line for each text that is not an expression."""
    return HEAD + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)


def rules_text(options: Options) -> str:
    """Return the rule file."""
    return dump({"groups": list(_groups(options))})


def alerts(options: Options) -> list[type_of_rule]:
    """Return every alert as it is in the rule file, in its order."""
    return [rule for group in _groups(options) for rule in group["rules"] if "alert" in rule]


@cache
def source(name: str) -> Any:
    """Return one source file."""
    return yaml.safe_load((SOURCE / name).read_text(encoding="utf-8"))


def _groups(options: Options) -> Iterator[dict[str, Any]]:
    # Recorded and judged in one group, which Prometheus evaluates from top to bottom.
    yield {"name": "flowbiz-platform-objectives", "rules": list(_objectives(options))}
    for path in sorted((SOURCE / "rules").glob("*.yaml")):
        rules = [_alert(each, options) for each in source(f"rules/{path.name}")]
        yield {"name": f"flowbiz-platform-{path.stem}", "rules": rules}


def _objectives(options: Options) -> Iterator[type_of_rule]:
    spec = source("slo.yaml")
    rates = spec["burn_rates"]
    windows = sorted({each[name] for each in rates for name in ("window", "short")}, key=seconds)
    for objective in spec["objectives"]:
        yield from _records(objective, windows, options)
        for rate in rates:
            yield _alert(_burn_alert(objective, rate), options)


def _records(objective: Mapping[str, Any], windows: list[str], options: Options) -> Iterator[type_of_rule]:
    labels = {"slo": objective["slo"]}
    budget = f"{1 - objective['objective']:.6g}"
    chosen = f'{{job="{options.job}", slo="{objective["slo"]}"}}'
    for window in windows:
        events, errors = (objective[name].strip().replace("$window", window) for name in ("events", "errors"))
        # Without a failure there is no series of failures: 0, if there were events.
        errors = f"({errors})\nor 0 * sum by (job) (job_slo:events:rate{window}{chosen})"
        for name, text in (("events", events), ("errors", errors)):
            yield {"record": f"job_slo:{name}:rate{window}", "expr": _expression(text, options), "labels": labels}
    yield {
        "record": "job_slo:error_budget:ratio",
        "expr": _expression(f"vector({budget})", options),
        "labels": {"job": options.job, **labels},
    }
    sums = [f"sum_over_time(job_slo:{name}:rate{windows[0]}{chosen}[{BUDGET_WINDOW}])" for name in ("errors", "events")]
    yield {
        "record": f"job_slo:error_budget_left:ratio{BUDGET_WINDOW}",
        "expr": _expression(f"1 - {sums[0]} / ({sums[1]} > 0) / {budget}", options),
        "labels": labels,
    }


def _burn_alert(objective: Mapping[str, Any], rate: Mapping[str, Any]) -> dict[str, Any]:
    window, short, budget = rate["window"], rate["short"], f"{1 - objective['objective']:.6g}"

    def series(name: str, over: str) -> str:
        return f'job_slo:{name}:rate{over}{{${{job}}, slo="{objective["slo"]}"}}'

    def burns(over: str) -> str:
        return f"{series('errors', over)} / {series('events', over)} > {rate['factor']} * {budget}"

    speed = "faster than" if rate["factor"] == 1 else f"more than {rate['factor']} times as fast as"
    return {
        "alert": objective["alert"],
        "expr": f"{burns(window)}\nand {burns(short)}\n"
        f"and {series('errors', window)} * ${{seconds:{window}}} >= {objective['minimum_errors']}",
        "for": rate["for"],
        "severity": objective["severity"][rate["urgency"]],
        "labels": {"window": window},
        "dashboard": objective["dashboard"],
        "panel": objective["panel"],
        "summary": objective["summary"],
        "description": f"{{{{ $value | humanizePercentage }}}} {objective['description']} over {window}. "
        f"The 30-day error budget is burning {speed} allowed.",
    }


def _alert(spec: Mapping[str, Any], options: Options) -> type_of_rule:
    rule: type_of_rule = {"alert": spec["alert"], "expr": _expression(spec["expr"], options)}
    if "for" in spec:
        rule["for"] = scaled(spec["for"], options.scale)
    # The label job is set here for expressions whose result has no labels, such as absent().
    rule["labels"] = {"severity": spec["severity"], "job": options.job, **spec.get("labels", {})}
    rule["annotations"] = {
        "summary": spec["summary"],
        "description": spec["description"],
        "runbook_url": f"{options.runbooks}/{spec['alert']}.md",
        "dashboard_url": f"{options.grafana}/d/{spec['dashboard']}?viewPanel={_panel_id(spec)}",
    }
    return rule


def _expression(text: str, options: Options) -> str:
    """Return an expression with its names replaced and its windows scaled."""
    names: dict[str, str] = {**source("names.yaml"), "job": f'job="{options.job}"'}
    replace: Callable[[re.Match[str]], str] = lambda match: names[match[1]]  # noqa: E731 - typed for re.sub
    return _Block(scaled_expression(re.sub(r"\$\{(\w+)\}", replace, text.strip()), options.scale) + "\n")


def _panel_id(spec: Mapping[str, Any]) -> int:
    uid, title = spec["dashboard"], spec["panel"]
    if (uid, title) not in _panel_ids():
        raise ValueError(
            f"Alert {spec['alert']}: dashboard {uid!r} has no panel {title!r}. Write the title of one of its panels."
        )
    return _panel_ids()[uid, title]


@cache
def _panel_ids() -> Mapping[tuple[str, str], int]:
    """Return the id of each panel by its dashboard's uid and its title; of equal titles the first one counts."""
    ids: dict[tuple[str, str], int] = {}
    for path in sorted(DASHBOARDS.glob("*.json")):
        page = json.loads(path.read_text(encoding="utf-8"))
        for panel in page["panels"]:
            if panel["type"] != "row":
                ids.setdefault((page["uid"], panel["title"]), panel["id"])
    return ids
