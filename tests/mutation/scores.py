"""The score of each file in its last complete run: `scores.md`, which `make mutation` updates."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

FILE = Path(__file__).with_name("scores.md")
COLUMNS = ("failed", "timeout", "survived", "unreached", "explained")
_HEAD = f"""# Mutation scores

`make mutation` writes the line of each file whose mutants it tried without `--sample` and `--place`.
`survivors.yaml` says why the explained ones change nothing. The others are caught by a test that fails or does not end.

| File | {" | ".join(COLUMNS)} |
|---|{"---|" * len(COLUMNS)}
"""


def read() -> dict[str, Counter[str]]:
    """Return the counts of each file."""
    found = {}
    for line in FILE.read_text().splitlines():
        name, *figures = line.strip("| ").split(" | ")
        if name.startswith("`") and len(figures) == len(COLUMNS):
            found[name.strip("`")] = Counter(dict(zip(COLUMNS, map(int, figures), strict=True)))
    return found


def record(counts: Mapping[str, Counter[str]], known: set[str]) -> None:
    """Write these counts over earlier ones, and drop files that are no longer mutated."""
    rows = {path: row for path, row in {**read(), **counts}.items() if path in known}
    lines = [f"| `{path}` | {' | '.join(str(rows[path][name]) for name in COLUMNS)} |\n" for path in sorted(rows)]
    FILE.write_text(_HEAD + "".join(lines))


def caught_share(counts: Counter[str]) -> float:
    """Return the share that was caught, of those that a test can catch."""
    possible = counts.total() - counts["explained"]
    return (counts["failed"] + counts["timeout"]) / possible if possible else 1.0
