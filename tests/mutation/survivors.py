"""The explained survivors: `survivors.yaml`."""

from pathlib import Path

import yaml

FILE = Path(__file__).with_name("survivors.yaml")


def explained() -> dict[tuple[str, str, str, int], str]:
    """Return the reason of each explained survivor by the mutant's key."""
    found = {}
    for path, entries in (yaml.safe_load(FILE.read_text()) or {}).items():
        for entry in entries:
            found[path, entry["place"], entry["change"], entry.get("occurrence", 1)] = entry["why"]
    return found
