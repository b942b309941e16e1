"""What an agent is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

SCRATCH = "scratch"
"""The name of the folder in which an agent works."""
FILE, NOTE = "settings.toml", "note.txt"
BEFORE, AFTER, NOTED = 'colour = "green"\n', 'colour = "blue"\n', "changed\n"
COMMAND = f"cat {FILE} {NOTE} | sha256sum"
"""The command of the session; its output depends on every step before it."""

Turn = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a session runs: a home and a work folder that nothing else uses, and the gateway."""

    home: Path
    work: Path
    gateway: str
    key: str
    model: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """What an agent printed: `lines` are (who, text), in order. `session` is the id that the agent gave its session."""

    lines: Sequence[tuple[str, str]]
    session: str
    final: str


class Agent(Protocol):
    """One command-line agent."""

    @property
    def name(self) -> str:
        """The product's name."""

    def turns(self, work: Path) -> Sequence[Turn]:
        """Return the five turns of the script, with this agent's tools."""

    def prepare(self, place: Place) -> Mapping[str, str]:
        """Write the agent's settings into its home, and return its environment."""

    def command(self, programs: Path, place: Place, prompt: str) -> Sequence[str]:
        """Return the command of a session without a person."""

    def read(self, output: str) -> Transcript:
        """Read the JSON lines that the agent printed."""
