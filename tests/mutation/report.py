"""Counts of a mutation run."""

import sys
from collections import Counter
from collections.abc import Mapping

from tests.mutation.faults.mutant import Mutant
from tests.mutation.runs.workshop import Result
from tests.mutation.scores import COLUMNS, caught_share

GOAL = 0.9
"""The share of mutants that must be caught; those that `survivors.yaml` explains do not count."""


class Report:
    """What was caught, by file. Survivors are printed when they are found."""

    def __init__(self, explained: dict[tuple[str, str, str, int], str]) -> None:
        self._explained = explained
        self._counts: dict[str, Counter[str]] = {}
        self._missed: list[str] = []
        """Named faults that survived, and modules that could not be tested: there may be none."""

    def fail(self, why: str) -> None:
        """Print why a module could not be tested; the run then fails."""
        self._missed.append(why)
        sys.stdout.write(f"{why}\n")

    def add(self, mutant: Mutant, result: Result, named: str = "") -> None:
        """Count a mutant; print it if it survived without an explanation."""
        how = "explained" if not result.caught and mutant.key in self._explained else result.how
        how = "survived" if how == "timeout" and not result.caught else how
        self._counts.setdefault(mutant.path, Counter())[how] += 1
        if how in ("survived", "unreached"):
            if named:
                self._missed.append(named)
            sys.stdout.write(f"{how}: {named or mutant}\n")
            sys.stdout.flush()

    @property
    def good_enough(self) -> bool:
        """Whether the goal is reached and every named fault was caught."""
        return caught_share(sum(self._counts.values(), Counter())) >= GOAL and not self._missed

    def counts(self) -> Mapping[str, Counter[str]]:
        """Return the counts of each file so far."""
        return {path: Counter(counts) for path, counts in self._counts.items()}

    def table(self) -> str:
        """Return one line for each file, and the sum."""
        total = sum(self._counts.values(), Counter())
        return "\n".join([_HEAD, *map(self.line, self._counts), _line("all", total)])

    def line(self, path: str) -> str:
        """Return the line of one file; of a file without a mutant only its name."""
        return _line(path, self._counts.get(path, Counter()))


_HEAD = " ".join([f"{'':52}", "mutants", *(f"{name:>9}" for name in COLUMNS), "caught"])


def _line(name: str, counts: Counter[str]) -> str:
    figures = [f"{counts[how]:9}" for how in COLUMNS]
    return " ".join([f"{name:52}", f"{counts.total():7}", *figures, f"{caught_share(counts):6.0%}"])
