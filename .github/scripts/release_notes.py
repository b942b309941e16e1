"""Print the section of CHANGELOG.md for a tag: python .github/scripts/release_notes.py v1.2.3

Exit code 2 if the tag is not `v` and the version of pyproject.toml, or if the section is missing or empty.
"""

import re
import sys
import tomllib
from pathlib import Path

_HEADING = re.compile(r"^## \[(?P<version>[^\]]+)\](?: - (?P<date>\d{4}-\d\d-\d\d))?[ \t]*$", re.M)
_LINK = re.compile(r"^\[[^\]]+\]: \S+\s*$\n?", re.M)


def notes(changelog: str, version: str) -> str:
    """Return the section of a version, without its heading and without the links at the end of the file.

    Raises:
        ValueError: it is missing, has no date, occurs twice or is empty.
    """
    headings = list(_HEADING.finditer(changelog))
    found = [heading for heading in headings if heading["version"] == version]
    if len(found) != 1 or found[0]["date"] is None:
        there = ", ".join(heading[0] for heading in headings) or "none"
        raise ValueError(
            f"CHANGELOG.md needs one heading '## [{version}] - YYYY-MM-DD'; its headings are: {there}. "
            "Write it below '## [Unreleased]'"
        )
    following = [heading.start() for heading in headings if heading.start() > found[0].start()]
    section = _LINK.sub("", changelog[found[0].end() : min(following, default=len(changelog))]).strip()
    if not any(line and not line.startswith("#") for line in section.splitlines()):
        raise ValueError(f"CHANGELOG.md: the section '{found[0][0]}' is empty; say what changed")
    return section + "\n"


def main(arguments: list[str], root: Path = Path()) -> int:
    """Run the command line and return its exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: release_notes.py TAG, for example v1.2.3\n")
        return 2
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    try:
        if arguments[0] != f"v{version}":
            raise ValueError(f"The tag is '{arguments[0]}' and not v{version}, the version of pyproject.toml")
        text = notes((root / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    except ValueError as error:
        sys.stderr.write(f"{error}.\n")
        return 2
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
