"""Mutants of Lua scripts and of PromQL, made by patterns: neither has a syntax tree here."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from tests.mutation.faults.mutant import Change, Mutant, mutants_of

LUA = (
    (r"==", "~="), (r"~=", "=="), (r"<=", "<"), (r">=", ">"),
    (r"(?<![<>=~-])<(?!=)", "<="), (r"(?<![<>=~-])>(?!=)", ">="),
    (r"(?<= )\+(?= )", "-"), (r"(?<= )-(?= )", "+"), (r"(?<= )\*(?= )", "/"), (r"(?<= )/(?= )", "*"),
    (r"\band\b", "or"), (r"\bor\b", "and"), (r"\bnot ", ""),
    (r"\bmath\.max\b", "math.min"), (r"\bmath\.min\b", "math.max"),
    (r"\bfloor\(", "ceil("), (r"\bceil\(", "floor("), (r"(?<![\w.\[])\d+(?![\w.\]])", r"(\g<0> + 1)"),
    (r"(?m)^(?P<indent> *)[\w.]+(?:\(\)\.\w+)?\([^\n]*\)$", r"\g<indent>do end"),
)  # fmt: skip
"""Patterns and what replaces them; a call on its own line is left out."""

PROMQL = (
    (r"(?<= )>=?(?= )", "<"), (r"(?<= )<=?(?= )", ">"), (r"(?<= )== 0\b", "> 0"),
    (r"\band\b", "unless"), (r"\bunless\b", "and"),
    (r"(?<= [<>] )(?!0\b(?!\.))[\d.]+(?:e\d+)?", r"(\g<0> * 2)"),
    (r"(?<= [<>] )(?!0\b(?!\.))[\d.]+(?:e\d+)?", r"(\g<0> / 2)"),
    (r"(?<= > )0\b(?!\.)", "1"), (r"(?<= (?:>=|==) )[1-9][\d.]*", r"(\g<0> * 2)"), (r"(?<=\d) - (?=\w)", " + "),
)  # fmt: skip
"""For alert rules, which promtool tests."""

IN_DASHBOARDS = (
    (r"(?<=\b(?:by|on) \()\w+|(?<=\bwithout \()\w+|(?<=, )\w+(?=[\w, ]*\) )", r"\g<0>_gone"),
    (r"(?<=histogram_quantile\()0\.5\b", "0.9"), (r"(?<=histogram_quantile\()0\.9\d?\b", "0.5"),
)  # fmt: skip
"""For dashboards, which comparisons with the code and with their legends test: a label that no series has, and another
quantile."""


def lua_mutants(path: str, source: str) -> list[Mutant]:
    """Return the mutants of a script; comments and texts stay."""
    code = re.sub(r"--[^\n]*|'[^'\n]*'|\"[^\"\n]*\"", lambda match: _blank(match[0]), source)
    return mutants_of(path, source, list(_changes(code, source, LUA, lambda start: _function(code, start))))


def alert_mutants(path: str, source: str) -> list[Mutant]:
    """Return the mutants of the expressions and of the waiting times in a file of alert rules."""
    changes: list[Change] = []
    for name, key, start, end in _rule_fields(source):
        if key == "for" and source[start] != "0":
            for by, sign in (("doubled", 2.0), ("halved", 0.5)):
                changes.append(_times(source, start, end, sign, name, by))
        elif key == "expr":
            code = " " * start + re.sub(r"\"[^\"\n]*\"", lambda match: _blank(match[0]), source[start:end])
            changes += _changes(code, source, PROMQL, lambda _, name=name: name)  # type: ignore[misc]
    return mutants_of(path, source, changes)


def dashboard_mutants(path: str, source: str) -> list[Mutant]:
    """Return a mutant for each grouping label and each quantile of a dashboard's queries."""
    changes: list[Change] = []
    end = 0
    for title, query in _queries(json.loads(source)):
        written = json.dumps(query, ensure_ascii=False)
        start = source.index(written, end)  # json.loads keeps the order of the text
        end = start + len(written)
        changes += _changes(" " * start + written, source, IN_DASHBOARDS, lambda _, title=title: title)  # type: ignore[misc]  # a lambda's default has no annotation
    return mutants_of(path, source, changes)


def _changes(
    code: str, source: str, patterns: tuple[tuple[str, str], ...], place: Callable[[int], str]
) -> Iterator[Change]:
    """Yield a change for each match in `code`, which is `source` with comments and texts blanked out."""
    for pattern, replacement in patterns:
        for match in re.finditer(pattern, code):
            after = match.expand(replacement)
            line = source[source.rfind("\n", 0, match.start()) + 1 :].partition("\n")[0].strip()
            shown = f"{line} ({source[match.start() : match.end()].strip()} → {after.strip()})"
            yield Change(match.start(), match.end(), after, place(match.start()), shown)


def _rule_fields(source: str) -> Iterator[tuple[str, str, int, int]]:
    """Yield name, key, start and end of each `expr` and `for`."""
    root: Any = yaml.compose(source)
    for group in _value(root, "groups").value:
        for rule in _value(group, "rules").value:
            fields = {key.value: value for key, value in rule.value}
            name = (fields.get("alert") or fields["record"]).value
            window = (
                [value.value for key, value in _value(rule, "labels").value if key.value == "window"]
                if "labels" in fields
                else []
            )
            for key in ("expr", "for"):
                if key in fields:
                    yield " ".join([name, *window]), key, fields[key].start_mark.index, fields[key].end_mark.index


def _value(node: Any, wanted: str) -> Any:
    return next(value for key, value in node.value if key.value == wanted)


def _times(source: str, start: int, end: int, factor: float, name: str, how: str) -> Change:
    """A duration times a factor."""
    number, unit = re.fullmatch(r"(\d+)([smhd])", source[start:end]).groups()  # type: ignore[union-attr]
    seconds = int(int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit] * factor)
    return Change(start, end, f"{seconds}s", name, f"for: {number}{unit} {how}")


def _function(code: str, start: int) -> str:
    """The name of the Lua function that a position is in or behind."""
    names = re.findall(r"\bfunction (\w+)", code[:start])
    return names[-1] if names else "script"


def _queries(part: Any, title: str = "") -> Iterator[tuple[str, str]]:
    """Yield each query of a dashboard with the title of its panel, or the name of its annotation."""
    if isinstance(part, list):
        for each in part:
            yield from _queries(each, title)
    elif isinstance(part, dict):
        named = part.get("title") or part.get("name") or title
        for key, value in part.items():
            if key == "expr":
                yield named, value
            else:
                yield from _queries(value, named if isinstance(named, str) else title)


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", "\0", text)
