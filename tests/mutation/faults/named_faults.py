"""The faults by hand: `named_faults.yaml`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.mutation.faults.mutant import Mutant
from tests.support.paths import ROOT

FILE = Path(__file__).with_name("named_faults.yaml")


@dataclass(frozen=True)
class NamedFault:
    """A fault and the tests that must catch it."""

    name: str
    file: str
    before: str
    after: str
    tests: list[str]
    quick: bool = False
    """Whether every run of the tests tries it."""
    promtool: bool = False
    """Whether promtool's tests of the alert rules must catch it."""

    def mutant(self, tree: Path = ROOT) -> Mutant:
        """Return the mutant, or raise an AssertionError that says what in the entry matches nothing."""
        entry = f"tests/mutation/faults/named_faults.yaml, '{self.name}'"
        file = tree / self.file
        assert file.is_file(), f"{entry}: there is no {self.file}; name the file that has its code now"
        missing = [each for each in self.tests if not (tree / each).exists()]
        assert not missing, f"{entry}: there are no tests {', '.join(missing)}; name those that catch it now"
        source = file.read_text()
        count = source.count(self.before)
        assert count == 1, f"{entry}: its text occurs {count} times in {self.file}; put the fault into the code of now"
        start = source.index(self.before)
        text = source.replace(self.before, self.after)
        return Mutant(self.file, source.count("\n", 0, start) + 1, "named", self.name, 1, text, live=False)


def named_faults() -> list[NamedFault]:
    """Return all of them, in the order of the file."""
    entries: list[dict[str, Any]] = yaml.safe_load(FILE.read_text())
    return [NamedFault(**entry) for entry in entries]
