"""SECURITY.md: each control names a test that exists, in each of the six parts of STRIDE."""

import re

from tests.support.paths import ROOT

TEXT = (ROOT / "SECURITY.md").read_text()
PARTS = (
    "Spoofing",
    "Tampering",
    "Repudiation",
    "Information disclosure",
    "Denial of service",
    "Elevation of privilege",
)
_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def test_security_page_names_existing_tests() -> None:
    """A file that moved, or a test that was renamed, is named here."""
    named = _TEST.findall(TEXT)
    missing = [path for path, _ in named if not (ROOT / path).is_file()]
    gone = [name for path, name in named if name and f"def {name}(" not in (ROOT / path).read_text()]

    assert (missing, gone) == ([], [])
    assert len(named) > 30


def test_security_page_shows_each_control_by_test() -> None:
    """A threat in a table without a test is only a claim."""
    for part in PARTS:
        _, _, section = TEXT.partition(f"### {part}\n")
        rows = [line for line in re.split(r"\n##", section)[0].splitlines() if line.startswith("| ")][1:]
        assert len(rows) >= 3, part
        assert [row for row in rows if not _TEST.search(row.rpartition(" | ")[2])] == []


def test_readme_leads_to_security_page() -> None:
    """A researcher who finds a vulnerability looks in the README first."""
    assert "(SECURITY.md)" in (ROOT / "README.md").read_text()
