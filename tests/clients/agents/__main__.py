"""`make agents`: a tool session of each agent over each route; writes the section of docs/agents.md."""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.clients.agents import report
from tests.clients.agents.agent import Agent
from tests.clients.agents.claude_code import ClaudeCode
from tests.clients.agents.codex import Codex
from tests.clients.agents.install import PACKAGES, CannotInstallError, install
from tests.clients.agents.session import Outcome, run_session
from tests.clients.agents.stage import ROUTES, running_stage
from tests.support.paths import ROOT

AGENTS: Sequence[Agent] = (Codex(), ClaudeCode())


def main() -> int:
    """Return 1 if a session did not do what the script says."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients.agents", description=__doc__)
    parser.add_argument("routes", nargs="*", help=f"only these routes: {', '.join(ROUTES)}")
    parser.add_argument("--programs", type=Path, help="a folder that has the programs codex and claude")
    parser.add_argument("--keep", type=Path, help="keep the sessions' folders and the gateway's log below this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="agents") as temporary:
        directory = options.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        try:
            programs = options.programs or install(Path(temporary), PACKAGES)
        except CannotInstallError as error:
            _show(str(error))
            return 1
        outcomes = list(_run(programs.resolve(), directory, options.routes or list(ROUTES)))
    failed = any(outcome.faults for outcome in outcomes)
    if not failed and not options.routes:
        text = report.section(outcomes, PACKAGES, time.strftime("%Y-%m-%d", time.gmtime()))
        report.write(ROOT / "docs/agents.md", text)
    _show(report.as_json(outcomes) if failed else "every session did what its script says")
    return 1 if failed else 0


def _run(programs: Path, directory: Path, wires: Sequence[str]) -> Sequence[Outcome]:
    outcomes = []
    with running_stage(directory) as stage:
        for agent in AGENTS:
            for wire in wires:
                folder = directory / f"{agent.name.lower().replace(' ', '-')}-{wire}"
                outcome = run_session(agent, programs, wire, stage, folder)
                result = list(outcome.faults) or "as scripted"
                _show(f"{agent.name} over {ROUTES[wire]}: {outcome.seconds:.0f} s, {result}")
                outcomes.append(outcome)
    return outcomes


def _show(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a program for people


if __name__ == "__main__":
    sys.exit(main())
