"""Every PromQL expression that people and programs are given: of dashboards, rules and runbooks."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from tests.support.paths import ROOT

VARIABLES = {
    "$instance": ".*",
    "$provider": ".*",
    "$model": ".*",
    "$__rate_interval": "1m",
    "$__range": "1h",
}
"""What Grafana puts in for a variable that has all its values."""
_FENCED = re.compile(r"^```promql\n(.*?)^```", re.M | re.S)
_SELECTOR = re.compile(r"(\{[^}]*\})")
_COMPARISON = re.compile(r"(==|!=|>=|<=|>|<)(?!=?\s*bool\b)")
_PLACEHOLDER = re.compile(r'(\w+)="\$?<?[A-Z_]+>?"')
"""What a reader of a runbook replaces: `provider="PROVIDER"`."""
_CONTINUES = re.compile(r"\s|[)*/+<>=-]|(?:and|or|unless)\b")


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression with the place where a person finds it."""

    place: str
    text: str

    def executed(self) -> str:
        """Return it with values for the variables, and with comparisons that keep all series."""
        text = _PLACEHOLDER.sub(r'\1=~".*"', self.text)
        for name, value in VARIABLES.items():
            text = text.replace(name, value)
        assert "$" not in text, f"{self.place}: unknown variable in {text}"
        return without_comparisons(text)


def without_comparisons(text: str) -> str:
    """Return the expression with comparisons that give 0 and 1 instead of leaving series out.

    What `unless` takes away stays, since its comparisons decide whether the expression has series at all.
    """
    kept, word, taken = re.split(r"\b(unless)\b", text, maxsplit=1) if "unless" in text else (text, "", "")
    parts = _SELECTOR.split(kept)
    return "".join(part if part.startswith("{") else _COMPARISON.sub(r"\1 bool", part) for part in parts) + word + taken


def of_dashboards() -> Iterator[Expression]:
    """Yield the queries of panels and of annotations."""
    for file in sorted((ROOT / "dashboards").glob("*.json")):
        page: dict[str, Any] = json.loads(file.read_text())
        for panel in page["panels"]:
            for target in panel.get("targets", []):
                if "expr" in target:
                    yield Expression(f"{file.stem}: {panel['title']} {target['refId']}", target["expr"])
        for annotation in page["annotations"]["list"]:
            yield Expression(f"{file.stem}: annotation {annotation['name']}", annotation["expr"])


def of_rules() -> Iterator[Expression]:
    """Yield the expressions of alerts and recorded series."""
    for group in yaml.safe_load((ROOT / "alerts/platform.yml").read_text())["groups"]:
        for number, rule in enumerate(group["rules"]):
            yield Expression(f"rule {rule.get('alert') or rule['record']} ({group['name']} {number})", rule["expr"])


def of_runbooks() -> Iterator[Expression]:
    """Yield each query in the `promql` blocks of runbooks."""
    for file in sorted((ROOT / "runbooks").rglob("*.md")):
        for block in _FENCED.findall(file.read_text()):
            for number, query in enumerate(queries_of(block)):
                yield Expression(f"runbook {file.stem} {number}", query)


def queries_of(block: str) -> Iterator[str]:
    """Split a block: a query begins at the start of a line and continues on indented lines and after operators."""
    query = ""
    for line in block.splitlines():
        line = line.partition(" # ")[0] if '"' not in line.partition(" # ")[2] else line
        if line.startswith("#") or not line.strip():
            continue
        closed = query.count("(") == query.count(")") and query.count("{") == query.count("}")
        if query and closed and not _CONTINUES.match(line):
            yield query.strip()
            query = ""
        query += line + "\n"
    if query:
        yield query.strip()


def every_expression() -> list[Expression]:
    """Return all of them."""
    return [*of_dashboards(), *of_rules(), *of_runbooks()]


def variable_queries() -> Iterator[tuple[str, str, str]]:
    """Yield place, selector and label of each variable that lists a label's values."""
    for file in sorted((ROOT / "dashboards").glob("*.json")):
        for variable in json.loads(file.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
                assert match is not None, variable["query"]
                selector = match[1].replace("$provider", ".*").replace("$instance", ".*")
                yield f"{file.stem}: variable {variable['name']}", selector, match[2]


def sql_queries() -> Iterator[tuple[str, str]]:
    """Yield title and text of each SQL query, for the last hour."""
    for file in sorted((ROOT / "dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", []):
                if "rawSql" in target:
                    last_hour = r"\1 BETWEEN now() - interval '1 hour' AND now()"
                    yield panel["title"], re.sub(r"\$__timeFilter\(([\w.]+)\)", last_hour, target["rawSql"])
