"""The project's prose is plain technical English: a linter over docstrings, comments, messages, pages and test names.

`tests/support/documents/prose/rules.py` has the rules and their exceptions.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.support.documents.prose.rules import ANY_RULE, EXEMPT, IN_NAMES, RULES
from tests.support.documents.prose.texts import Prose, all_prose, prose_of
from tests.support.paths import ROOT

MAX_TEST_NAME = 60


def findings_in(prose: Prose) -> Iterator[str]:
    """Yield path, line, text and rule of everything that a rule forbids in one text, apart from the exceptions."""
    if not ANY_RULE.search(prose.text):
        return
    for rule in RULES:
        for match in rule.pattern.finditer(prose.text):
            if not any(prose.path == path and text in prose.text for path, text, _ in EXEMPT):
                line = prose.line + prose.text.count("\n", 0, match.start())
                yield f"{prose.path}:{line}: {match[0]!r}: {rule.instead}"


@cache
def all_tests() -> tuple[tuple[str, str], ...]:
    """Return path and name of every test."""
    return tuple(
        (file.relative_to(ROOT).as_posix(), node.name)
        for file in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


def words_in_names() -> list[str]:
    """Return the tests whose name has a word that names do not use."""
    return [
        f"{path}: {name}: write {rule.instead}"
        for path, name in all_tests()
        for rule in IN_NAMES
        if rule.pattern.search(name.replace("_", " "))
    ]


def imports_of_test_modules() -> list[str]:
    """Return the imports of a test module by another module. Shared code belongs to `tests/support` or a conftest."""
    return [
        f"{file.relative_to(ROOT).as_posix()}:{node.lineno}: imports {node.module}"
        for file in sorted((ROOT / "tests").rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").rpartition(".")[2].startswith("test_")
    ]


def test_prose_has_no_forbidden_words() -> None:
    assert [found for prose in all_prose() for found in findings_in(prose)] == []


def test_test_names_have_at_most_sixty_characters() -> None:
    assert [name for name in all_tests() if len(name[1]) > MAX_TEST_NAME] == []


def test_test_names_have_no_forbidden_words() -> None:
    assert words_in_names() == []


def test_no_test_module_is_imported() -> None:
    assert imports_of_test_modules() == []


def test_linter_reads_every_kind_of_text(tmp_path: Path) -> None:
    """Each kind of file has one finding, and the identifiers in backticks and code have none."""
    texts = {
        "alerts/a.yml": 'groups: [{rules: [{alert: A, annotations: {summary: "Nobody answers", description: ""}}]}]\n',
        "deploy/a.sql": "SELECT 'answer'; -- nobody answers\n",
        "docs/a.md": "The `answer`, [here](answer.md).\n\n```sh\nanswer\n```\n\nNobody answers.\n",
        "platform_app/a.py": 'def answer() -> None:\n    """Nobody answers `answer`."""\n',
        "platform_app/b.py": "ANSWER = answer  # nobody answers\n",
        "platform_app/c.py": 'MESSAGE = f"Nobody answers {answer}."\n',
    }
    for name, text in texts.items():
        prose = _prose_of_text(tmp_path, name, text)
        assert sum(len(list(findings_in(each))) for each in prose) == 2, name


def _prose_of_text(folder: Path, name: str, text: str) -> Iterator[Prose]:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    yield from prose_of(file, root=folder)
