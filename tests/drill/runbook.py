"""The first check of a runbook: its PromQL queries, executed, and whether a result names the cause."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.drill.monitoring import Monitoring, Sample
from tests.support.paths import ROOT

_CHECK = re.compile(r"^## Check\n(.*?)^## ", re.M | re.S)
_PROMQL = re.compile(r"^```promql\n(.*?)^```", re.M | re.S)
_PLACEHOLDER = re.compile(r'"([A-Z][A-Z_]*)"')
_CONTINUES = re.compile(r"\s*(?:[-+*/%^><=!)]|and\b|or\b|unless\b|by\b|without\b|on\b|ignoring\b)")


@dataclass(frozen=True)
class Cause:
    """What a runbook's query must show: a series with these labels, whose value is in the range.

    `labels` maps a label to a regular expression for its whole value.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    at_least: float = 1e-9
    at_most: float = float("inf")

    def is_named_by(self, sample: Sample) -> bool:
        """Return whether this series names the cause."""
        labels_fit = all(re.fullmatch(value, sample.labels.get(name, "")) for name, value in self.labels.items())
        return labels_fit and self.at_least <= sample.value <= self.at_most


@dataclass(frozen=True)
class Finding:
    """The query that named the cause, by its place in the runbook's check, and the series that did."""

    number: int
    queries: int
    sample: Sample

    def __str__(self) -> str:
        labels = ", ".join(f"{name}={value}" for name, value in sorted(self.sample.labels.items()) if name in _SHOWN)
        shown = f"{{{labels}}}" if labels else self.sample.labels.get("__name__", "value")
        return f"query {self.number} of {self.queries}: {shown} = {self.sample.value:.3g}"


_SHOWN = {"provider", "model", "outcome", "code", "reason", "host", "mode", "decision", "table", "hop", "route", "rule"}
"""Labels in the report; the others are the same in every series of the drill."""


def check_queries(alert: str, labels: Mapping[str, str]) -> list[str]:
    """Return the queries of the check of an alert's runbook, with the alert's labels in place of PROVIDER and the like.

    A query continues on the next line while a parenthesis is open, or if that line begins with an operator.
    """
    text = (ROOT / f"runbooks/{alert}.md").read_text(encoding="utf-8")
    check = _CHECK.search(text)
    assert check is not None, f"runbooks/{alert}.md has no check"
    return [
        _PLACEHOLDER.sub(lambda match: f'"{labels.get(match[1].lower(), match[1])}"', query)
        for block in _PROMQL.findall(check[1])
        for query in _split(block)
    ]


def find_cause(monitoring: Monitoring, queries: Sequence[str], cause: Cause) -> Finding | None:
    """Execute the queries in their order and return the first one that names the cause."""
    for number, query in enumerate(queries, start=1):
        named = [sample for sample in monitoring.query(query) if cause.is_named_by(sample)]
        if named:
            return Finding(number, len(queries), max(named, key=lambda sample: sample.value))
    return None


def _split(block: str) -> Iterator[str]:
    query, depth = "", 0
    for line in block.splitlines():
        code = line.partition("#")[0].rstrip() if '"' not in line else line
        if not code.strip():
            continue
        if query and depth == 0 and not _CONTINUES.match(code):
            yield query.strip()
            query = ""
        query += f"{code}\n"
        depth += sum(code.count(each) for each in "({[") - sum(code.count(each) for each in ")}]")
    if query:
        yield query.strip()
