"""The section of docs/agents.md between two marks: a table, and one transcript for each session."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.clients.agents.agent import SCRATCH
from tests.clients.agents.session import Outcome
from tests.clients.agents.stage import ROUTES

BEGIN, END = "<!-- agents: begin -->\n", "<!-- agents: end -->\n"
_WIDTH = 120


def section(outcomes: Sequence[Outcome], versions: Mapping[str, str], date: str) -> str:
    """Return the section in Markdown."""
    named = ", ".join(f"`{name}` {version}" for name, version in versions.items())
    parts = [f"Written by `make agents` on {date} with {named}.\n", "\n".join(_table(outcomes))]
    parts += ["\n".join(_session(outcome)) for outcome in outcomes]
    return "\n".join(parts) + "\n"


def write(page: Path, text: str) -> None:
    """Replace what is between the marks of the page."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}{text}{END}{after}")


def _table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield "| Agent | Provider's API | Model turns | Prompt tokens | Completion tokens | Session in the usage records |"
    yield "|---|---|---|---|---|---|"
    for outcome in outcomes:
        tokens = (sum(record[f"{kind}_tokens"] for record in outcome.records) for kind in ("prompt", "completion"))
        sessions = len({record["session"] for record in outcome.records})
        cells = (outcome.agent, ROUTES[outcome.wire], len(outcome.records), *tokens, f"{sessions}, the agent's own")
        yield f"| {' | '.join(map(str, cells))} |"
    yield ""


def _session(outcome: Outcome) -> Iterator[str]:
    yield f"### {outcome.agent} over {ROUTES[outcome.wire]}\n"
    yield "```text"
    for who, text in outcome.transcript.lines:
        yield f"{who:6}{_short(text)}"
    yield "```\n"


def _short(text: str) -> str:
    """Return one line without this machine's paths and without ids that differ in each run."""
    line = re.sub(rf"/\S*/{SCRATCH}/", "", " ".join(text.split()))
    line = re.sub(r"Chunk ID: \w+ Wall time: [\d.]+ seconds", "Chunk ID: … Wall time: …", line)
    return line if len(line) <= _WIDTH else f"{line[:_WIDTH]}…"


def as_json(outcomes: Sequence[Outcome]) -> str:
    """Return the faults, for a person who looks for the reason."""
    return json.dumps({f"{outcome.agent} over {outcome.wire}": list(outcome.faults) for outcome in outcomes}, indent=1)
