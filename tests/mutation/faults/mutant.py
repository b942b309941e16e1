"""One fault: a change of one file's text."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One fault in one file. `path` is relative to the root of the tree."""

    path: str
    line: int
    place: str
    """The function that is changed, or another name of the place: it survives a move of the lines."""
    change: str
    """`before → after`, on one line."""
    occurrence: int
    """Counts equal changes in the same place, from 1."""
    text: str
    """The file's whole text with the fault in it."""
    live: bool
    """Whether the change is inside a function, so that its code can be exchanged without a new import."""

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What `survivors.yaml` identifies a mutant by."""
        return self.path, self.place, self.change, self.occurrence

    def __str__(self) -> str:
        number = f" #{self.occurrence}" if self.occurrence > 1 else ""
        return f"{self.path}:{self.line} {self.place}: {self.change}{number}"


@dataclass(frozen=True)
class Change:
    """A replacement of text between two offsets, before it becomes a mutant."""

    start: int
    end: int
    replacement: str
    place: str
    shown: str
    live: bool = False


def mutants_of(path: str, source: str, changes: list[Change]) -> list[Mutant]:
    """Return a mutant for each change, in the order of the text."""
    counts: dict[tuple[str, str], int] = {}
    made = []
    for change in sorted(changes, key=lambda each: (each.start, each.end, each.replacement)):
        counts[change.place, change.shown] = occurrence = counts.get((change.place, change.shown), 0) + 1
        text = source[: change.start] + change.replacement + source[change.end :]
        line = source.count("\n", 0, change.start) + 1
        made.append(Mutant(path, line, change.place, change.shown, occurrence, text, change.live))
    return made
