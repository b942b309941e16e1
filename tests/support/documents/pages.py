"""Read the documentation, as the tests of its examples and tables need it."""

import re

from tests.support.paths import ROOT

DOCS = ROOT / "docs"


def page_with_parts(name: str) -> str:
    """Return the text of `docs/<name>.md`, followed by the pages in the folder of that name."""
    return "\n".join(path.read_text() for path in (DOCS / f"{name}.md", *sorted((DOCS / name).glob("*.md"))))


def table(text: str, header: str) -> list[list[str]]:
    """Return the cells of every row below this header line, of all tables that have it."""
    _, *parts = text.split(f"{header}\n")
    assert parts, f"no table with the header {header!r}"
    lines = [line for part in parts for line in part.split("\n\n")[0].splitlines()[1:]]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def names_in(cell: str) -> list[str]:
    """Return the names in backticks."""
    return re.findall(r"`(\w+)`", cell)
