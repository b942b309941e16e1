"""Every dependency in pyproject.toml is imported by the file or folder that its comment names."""

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions

import pytest

from tests.support.paths import ROOT

NOT_IMPORTED = "not imported"
_ENTRY = re.compile(r'^(?:core = \[)?\s*"([A-Za-z0-9._-]+).*?",?\]?\s*(?:#\s*(.*))?$')
_CODE = ("alerts", "apps", "platform_app", "migrations", "bench", "dashboards", "tests", "editable_path_hook.py")


def entries(text: str) -> Mapping[str, str]:
    """Return the comment of each dependency by its name."""
    section = text[text.index("\ndependencies = [") : text.index("[project.scripts]")]
    return {match[1]: match[2] or "" for line in section.splitlines() if (match := _ENTRY.match(line))}


DEPENDENCIES = entries((ROOT / "pyproject.toml").read_text())


@cache
def imported_by(path: str) -> frozenset[str]:
    """Return the top-level modules that a file, or the files below a folder, import."""
    root = ROOT / path
    files = [root] if root.is_file() else list(root.rglob("*.py"))
    found: set[str] = set()
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return frozenset(found)


@cache
def modules() -> Mapping[str, frozenset[str]]:
    """Return the top-level modules of each installed distribution, by its normalized name."""
    found: dict[str, set[str]] = defaultdict(set)
    for module, names in packages_distributions().items():
        for name in names:
            found[normalized(name)].add(module)
    return {name: frozenset(each) for name, each in found.items()}


def normalized(name: str) -> str:
    """Return a distribution's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def problem(name: str, comment: str) -> str | None:
    """Say what is wrong with a dependency's comment, or return None."""
    where, colon, why = comment.partition(": ")
    if not (where and colon and why):
        return f"{name}: expected a comment 'PATH: use' or '{NOT_IMPORTED}: use'"
    ours = modules().get(normalized(name), frozenset())
    if where == NOT_IMPORTED:
        used = ours & frozenset().union(*map(imported_by, _CODE))
        return f"{name}: {sorted(used)} is imported; name the file or folder" if used else None
    if not (ROOT / where).exists():
        return f"{name}: {where} does not exist"
    return None if ours & imported_by(where) else f"{name}: {where} does not import it"


@pytest.mark.parametrize("name", DEPENDENCIES)
def test_dependency_is_imported_where_its_comment_says(name: str) -> None:
    assert problem(name, DEPENDENCIES[name]) is None


def test_runtime_dependencies_are_used_at_runtime() -> None:
    """Packages that only tests import belong to the extra `dev`."""
    text = (ROOT / "pyproject.toml").read_text()
    runtime = entries(text[: text.index("[project.optional-dependencies]")] + "[project.scripts]")
    assert {name for name, comment in runtime.items() if comment.startswith("tests")} == set()
    assert len(runtime) < len(DEPENDENCIES)


@pytest.mark.parametrize(
    ("name", "comment", "words"),
    [
        ("httpx", "", "expected a comment"),
        ("httpx", "our own calls", "expected a comment"),
        ("httpx", "platform_app/nowhere: calls", "does not exist"),
        ("httpx", "platform_app/rate_limit: calls", "does not import it"),
        ("httpx", "not imported: calls", "is imported"),
    ],
)
def test_dependency_check_finds_wrong_comments(name: str, comment: str, words: str) -> None:
    assert words in str(problem(name, comment))


def test_dependency_list_is_read_completely() -> None:
    """The test's own reading agrees with a TOML parser."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
    ]
    names = {re.split(r"[^A-Za-z0-9._-]", each, maxsplit=1)[0] for each in listed}
    assert names == DEPENDENCIES.keys()
