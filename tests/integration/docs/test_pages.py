"""Every page and decision names only files, variables, pages and headings that exist."""

import ast
import re
from pathlib import Path

import pytest

from platform_app.config import FORMER_NAMES, Settings
from tests.support.documents.pages import DOCS, table
from tests.support.paths import ROOT

DECISIONS = sorted((DOCS / "adr").glob("[0-9]*.md"))
PAGES = sorted(
    [
        *(page for page in DOCS.rglob("*.md") if page not in DECISIONS),
        *(ROOT / "runbooks").rglob("*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    ]
)
SOURCES = {
    path.name
    for folder in ("apps", "platform_app", "tests", "bench", "migrations")
    for path in (ROOT / folder).glob("**/*.py")
}
OF_EXAMPLES = {
    *("PLATFORM_BASE_URL", "PLATFORM_METRICS_URL", "PLATFORM_CHAT_KEY", "PLATFORM_ADMIN_KEY"),
    *("PLATFORM_API_KEY_PEPPER", "PLATFORM_PROMETHEUS_URL", "PLATFORM_ACTOR", "PLATFORM_"),
}
"""Variables that examples and secrets use, and that are not settings."""


def _path_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=_path_of)
def test_page_names_existing_files_and_variables(page: Path) -> None:
    text = page.read_text()
    known = {f"PLATFORM_{name.upper()}" for name in (*Settings.model_fields, *FORMER_NAMES)} | OF_EXAMPLES
    assert set(re.findall(r"PLATFORM_[A-Z_]*", text)) <= known
    assert not missing_files(text)


@pytest.mark.parametrize("page", [*PAGES, *DECISIONS], ids=_path_of)
def test_page_links_to_existing_pages_and_headings(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S))
    broken = []
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in headings(target)):
            broken.append(link)
    assert broken == []


def headings(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {_anchor(title) for title in titles}


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", [*PAGES, *DECISIONS], ids=_path_of)
def test_every_block_of_code_ends(page: Path) -> None:
    """Only the first line of a block names a language, so a block that does not end makes the next one look wrong."""
    fences = re.findall(r"^ *```(\w*)", page.read_text(), re.M)
    assert len(fences) % 2 == 0
    assert [language for language in fences[1::2] if language] == []


@pytest.mark.parametrize("page", PAGES, ids=_path_of)
def test_contents_name_every_section(page: Path) -> None:
    """Of a page that begins with a list of its sections."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    preamble, *sections = re.split(r"^## (.+)$", text, flags=re.M)
    listed = set(re.findall(r"\]\(#([^)]+)\)", preamble))
    if len(listed) >= 3:
        assert [title for title in sections[::2] if _anchor(title) not in listed] == []


@pytest.mark.parametrize("page", DECISIONS, ids=lambda path: path.stem)
def test_decision_names_existing_files(page: Path) -> None:
    """Also files without their folder. A decision that was replaced names removed files without their ending."""
    text = page.read_text()
    assert not missing_files(text)
    assert not set(re.findall(r"`(\w+\.py)`", text)) - SOURCES


@pytest.mark.parametrize("page", DECISIONS, ids=lambda path: path.stem)
def test_decision_is_in_index_with_its_status(page: Path) -> None:
    text = page.read_text()
    title = text.splitlines()[0].removeprefix("# ")
    status = re.search(r"^Date: \d{4}-\d\d-\d\d\. Status: ((?:accepted|replaced)[^\n]*(?:\n\S[^\n]*)*)\.$", text, re.M)
    assert status is not None, "the second paragraph has the date and the status"
    number, _, name = title.partition(". ")
    row = f"| [{int(number):04}]({page.name}) | {name} | {' '.join(status[1].split())} |"
    assert row in (DOCS / "adr/README.md").read_text().splitlines(), f"docs/adr/README.md has the line\n{row}"


def test_architecture_page_names_every_package() -> None:
    """The layout table has each folder of the gateway and of its HTTP service."""
    text = (DOCS / "architecture.md").read_text()
    packages = [
        path.name
        for parent in (ROOT / "platform_app", ROOT / "apps/platform_api")
        for path in parent.iterdir()
        if (path / "__init__.py").exists()
    ]
    assert len(packages) > 15
    assert [name for name in packages if f"{name}/" not in text] == []


@pytest.mark.parametrize(
    "package", [path.parent for top in ("platform_app", "apps") for path in sorted((ROOT / top).rglob("__init__.py"))],
    ids=_path_of,
)  # fmt: skip
def test_package_that_lists_its_parts_lists_all(package: Path) -> None:
    description = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    found = [path for path in package.iterdir() if path.name not in ("__init__.py", "__main__.py", "__pycache__")]
    parts = [path.stem if path.suffix == ".py" else path.name for path in found if path.suffix != ".pyi"]
    if re.search(r"\w\.py\b", description):
        assert [part for part in parts if not re.search(rf"(?<!\w){re.escape(part)}\b", description)] == []


def test_glossary_is_sorted_and_explains_each_term() -> None:
    rows = table((DOCS / "glossary.md").read_text(), "| Term | Meaning |")
    terms = [term for term, _ in rows]
    assert terms == sorted(terms, key=str.lower)
    assert [term for term, meaning in rows if not meaning.endswith(".")] == []


def missing_files(text: str) -> set[str]:
    """Return the paths in a text that start with a folder of the project and do not exist."""
    files = re.findall(
        r"(?<![\w./{-])((?:docs|runbooks|alerts|dashboards|apps|platform_app|tests|bench|deploy|migrations)/[\w./-]*\w/?)",
        text,
    )
    return {name for name in files if not (ROOT / name).exists()}
