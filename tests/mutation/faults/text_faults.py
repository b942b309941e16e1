"""Mutants of Lua scripts and of PromQL, made by patterns: neither has a syntax tree here."""

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
    (r"(?<= [<>] )(?!0\b(?!\.))[\d.]+", r"(\g<0> * 2)"), (r"(?<= [<>] )(?!0\b(?!\.))[\d.]+", r"(\g<0> / 2)"),
    (r"(?<= > )0\b(?!\.)", "1"), (r"(?<= (?:>=|==) )[1-9][\d.]*", r"(\g<0> * 2)"), (r"(?<=\d) - (?=\w)", " + "),
)  # fmt: skip
"""For alert rules, which promtool tests."""

GROUPING = ((r"\b(by|on|without) \((\w+)", r"\g<1> (\g<2>_gone"),)
"""A label that no series has: for dashboards, which only a comparison with the code tests."""


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
    """Return a mutant for each grouping label of a dashboard's queries."""
    return mutants_of(path, source, list(_changes(source, source, GROUPING, lambda start: _title(source, start))))


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


def _title(source: str, start: int) -> str:
    """The title of the panel that a query belongs to: the last one before it."""
    return re.findall(r'"title": "([^"]*)"', source[:start])[-1]  # type: ignore[no-any-return]


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", "\0", text)
