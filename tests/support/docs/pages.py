"""Read the documentation, as the tests of its examples and tables need it."""

from tests.support.paths import ROOT

DOCS = ROOT / "docs"


def page_with_parts(name: str) -> str:
    """Return the text of `docs/<name>.md`, followed by the pages in the folder of that name."""
    return "\n".join(path.read_text() for path in (DOCS / f"{name}.md", *sorted((DOCS / name).glob("*.md"))))
