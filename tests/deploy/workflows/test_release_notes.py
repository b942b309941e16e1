"""`.github/scripts/release_notes.py`: the notes of a release are the section of its version in CHANGELOG.md."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

SCRIPT = ROOT / ".github/scripts/release_notes.py"
CHANGELOG = """# Changelog

## [Unreleased]

- Not released.

## [1.2.0] - 2026-11-20

### Before you upgrade

- Run `migrate up`.

### Added

- A limit, see [the page](docs/limits.md).

## [1.1.0] - 2026-10-01

- An older change.

[1.2.0]: https://git.example/compare/v1.1.0...v1.2.0
[1.1.0]: https://git.example/releases/v1.1.0
"""
NOTES = """### Before you upgrade

- Run `migrate up`.

### Added

- A limit, see [the page](docs/limits.md).
"""


def run(folder: Path, *arguments: str, version: str = "1.2.0", changelog: str = CHANGELOG) -> tuple[int, str, str]:
    """Run the script in a project with this version and changelog; return exit code, stdout and stderr."""
    (folder / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')
    (folder / "CHANGELOG.md").write_text(changelog)
    command = [sys.executable, str(SCRIPT), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_notes_are_the_section_of_the_version(tmp_path: Path) -> None:
    assert run(tmp_path, "v1.2.0") == (0, NOTES, "")


def test_last_section_ends_before_the_links(tmp_path: Path) -> None:
    assert run(tmp_path, "v1.1.0", version="1.1.0") == (0, "- An older change.\n", "")


@pytest.mark.parametrize(
    ("tag", "version", "changelog", "expected"),
    [
        ("v1.3.0", "1.2.0", CHANGELOG, "The tag is 'v1.3.0' and not v1.2.0, the version of pyproject.toml."),
        ("1.2.0", "1.2.0", CHANGELOG, "The tag is '1.2.0' and not v1.2.0"),
        (
            "v1.3.0",
            "1.3.0",
            CHANGELOG,
            "needs one heading '## [1.3.0] - YYYY-MM-DD'; its headings are: ## ",
        ),
        ("v1.2.0", "1.2.0", CHANGELOG.replace(" - 2026-11-20", ""), "needs one heading"),
        ("v1.2.0", "1.2.0", CHANGELOG.replace("1.1.0] -", "1.2.0] -"), "needs one heading"),
        ("v1.2.0", "1.2.0", "# Changelog\n", "its headings are: none"),
        ("v1.2.0", "1.2.0", "## [1.2.0] - 2026-11-20\n\n### Added\n\n## [1.1.0] - 2026-10-01\n", "is empty; say what"),
        ("vUnreleased", "Unreleased", CHANGELOG, "needs one heading"),
    ],
)
def test_wrong_tag_or_section_is_refused(tmp_path: Path, tag: str, version: str, changelog: str, expected: str) -> None:
    code, output, error = run(tmp_path, tag, version=version, changelog=changelog)
    assert (code, output) == (2, "")
    assert expected in error
    assert "Traceback" not in error


def test_missing_argument_is_refused(tmp_path: Path) -> None:
    code, _, error = run(tmp_path)
    assert (code, error) == (2, "usage: release_notes.py TAG, for example v1.2.3\n")


def test_changelog_of_the_project_can_be_released(tmp_path: Path) -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    dated = re.sub(r"^## \[Unreleased\]$", "## [Unreleased]\n\n## [9.9.9] - 2030-01-01", text, flags=re.M)
    code, output, error = run(tmp_path, "v9.9.9", version="9.9.9", changelog=dated)
    assert (code, error) == (0, "")
    assert "### Added" in output
