"""Find the prose of the project: docstrings, comments, messages, pages and alert texts, without identifiers."""

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.support.paths import ROOT

SKIPPED = {".git", ".venv", ".data", "__pycache__", "node_modules"}
FOLDERS = ("apps", "platform_app", "migrations", "tests", "bench", "docs", "runbooks", "alerts", "dashboards", "deploy")
FILES = (*ROOT.glob("*.md"), ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / ".env.example")


@dataclass(frozen=True, slots=True)
class Prose:
    """A text for readers, with the line where it begins."""

    path: str
    line: int
    text: str


def all_prose() -> Iterator[Prose]:
    """Yield every text of every file."""
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*")):
            if file.is_file() and not SKIPPED & set(file.parts):
                yield from prose_of(file)
    for file in FILES:
        yield from prose_of(file)


def prose_of(file: Path, root: Path = ROOT) -> Iterator[Prose]:
    """Yield the texts of one file, by the kind of file; none for kinds that hold no prose."""
    path = file.relative_to(root).as_posix()
    found: Iterable[tuple[int, str]]
    match file.suffix or file.name:
        case ".py":
            found = _python(file.read_text(), messages=not path.startswith("tests/"))
        case ".md":
            found = _markdown(file.read_text())
        case ".lua" | ".sql":
            found = _comments(file.read_text(), "--")
        case "Makefile" | ".toml" | ".yaml" | ".env" | ".example":
            found = _comments(file.read_text(), "#")
        case ".yml":
            found = [*_comments(file.read_text(), "#"), *_alerts(file.read_text())]
        case ".json" if path.startswith("dashboards/"):
            found = _dashboard(file.read_text())
        case _:
            found = []
    for line, text in found:
        yield Prose(path, line, re.sub(r"``.+?``|`[^`]*`", "`…`", text, flags=re.S))


def _python(source: str, *, messages: bool) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and "noqa" not in token.string and "type: ignore" not in token.string:
            yield token.start[0], token.string.lstrip("# ")
    seen = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str() as text)):
                seen.add(id(node.value))
                yield node.lineno, text
            case ast.JoinedStr() if messages:
                seen.update(map(id, node.values))
                yield node.lineno, "".join(_part(value) for value in node.values)
            case ast.Constant(value=str() as text) if messages and id(node) not in seen and len(text.split()) > 2:
                yield node.lineno, text


def _part(value: ast.expr) -> str:
    """Return a literal part of an f-string, or a placeholder for an expression."""
    return str(value.value) if isinstance(value, ast.Constant) else "…"


def _markdown(text: str) -> Iterator[tuple[int, str]]:
    """Yield paragraphs, without code blocks, HTML comments and the targets of links."""

    def blank(match: re.Match[str]) -> str:
        return "\n" * match[0].count("\n")

    text = re.sub(r"^```.*?^```|<!--.*?-->", blank, text, flags=re.M | re.S)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    line = 1
    for paragraph in re.split(r"(\n)", text):
        if paragraph.strip():
            yield line, paragraph
        line += paragraph.count("\n")


def _comments(text: str, mark: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        _, found, comment = line.partition(mark)
        if found:
            yield number, comment


def _alerts(text: str) -> Iterator[tuple[int, str]]:
    """Yield summary and description of each alert."""
    for group in yaml.safe_load(text).get("groups", []):
        for rule in group.get("rules", []):
            for name in ("summary", "description"):
                if name in rule.get("annotations", {}):
                    yield 0, f"{rule['alert']}: {rule['annotations'][name]}"


def _dashboard(text: str) -> Iterator[tuple[int, str]]:
    """Yield titles and descriptions of each panel."""
    dashboard = json.loads(text)
    for panel in (dashboard, *dashboard["panels"]):
        for name in ("title", "description"):
            if panel.get(name):
                yield 0, panel[name]
