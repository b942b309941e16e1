"""`make chaos`: every fault under load; writes the table of docs/resilience.md, or says what was wrong."""

import argparse
import os
import sys
import time

from tests.chaos.outages.faults import FAULTS
from tests.chaos.outages.report import table, write
from tests.chaos.outages.run import run
from tests.chaos.outages.stage import running_stage
from tests.support.paths import ROOT


def main() -> int:
    """Return 1 if a demand was not met."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.outages", description=__doc__)
    parser.add_argument("faults", nargs="*", help=f"only these, in this order: {', '.join(FAULTS)}")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each fault lasts")
    options = parser.parse_args()
    names = options.faults or list(FAULTS)
    with running_stage() as stage:
        outcome = run(stage, [FAULTS[name] for name in names], options.seconds, _show)
    _show(f"\n{table(outcome.rows)}")
    _show("\n".join(outcome.problems) or "The books balance: every demand was met.")
    if not outcome.problems and not options.faults:
        write(ROOT / "docs/resilience.md", outcome, time.strftime("%Y-%m-%d", time.gmtime()), os.cpu_count() or 1)
    return 1 if outcome.problems else 0


def _show(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a program for people


if __name__ == "__main__":
    sys.exit(main())
