"""`make drill`: break a staging gateway on purpose and write the report; exit code 1 if a demand was not met."""

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from tests.drill.drill import BOUND_SECONDS, Drill
from tests.drill.faults import FAULTS
from tests.drill.monitoring import missing_programs
from tests.drill.report import report
from tests.drill.stage import running_stage

DEFAULT_FACTOR = 30
DEFAULT_CLEAN_SECONDS = 60.0


def main() -> int:
    """Run the drill. Return 1 if a demand was not met, 2 if a program is missing."""
    options = _options()
    missing = missing_programs()
    if missing:
        _show(f"The drill needs {' and '.join(missing)} (Debian: apt-get install prometheus prometheus-alertmanager)")
        return 2
    signal.signal(signal.SIGTERM, _interrupt)
    with running_stage(options.factor) as stage:
        drill = Drill(stage, _show, any_machine=options.any_machine, bound_seconds=options.bound)
        if options.clean:
            drill.run_clean(options.clean)
        for name in options.faults or FAULTS:
            drill.run_fault(FAULTS[name])
        drill.finish()
    text = report(drill.outcome, date=time.strftime("%Y-%m-%d", time.gmtime()), cores=os.cpu_count() or 1)
    if options.report is not None:
        options.report.write_text(text)
    else:
        _show(f"\n{text}")
    _show("\n".join(drill.outcome.problems) or "every demand was met")
    return 1 if drill.outcome.problems else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.drill", description=__doc__)
    parser.add_argument("faults", nargs="*", choices=[*FAULTS, []], help="only these faults, in this order")
    parser.add_argument("--factor", type=int, default=DEFAULT_FACTOR, help="divide the windows of all rules by this")
    parser.add_argument("--clean", type=float, default=DEFAULT_CLEAN_SECONDS, help="seconds without a fault at first")
    parser.add_argument("--bound", type=float, default=BOUND_SECONDS, help="longest wait for an alert, in seconds")
    parser.add_argument("--any-machine", action="store_true", help="judge only what holds on a busy machine")
    parser.add_argument("--report", type=Path, help="write the report to this file instead of the terminal")
    return parser.parse_args()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End as with Ctrl-C, so that everything that was started is stopped."""
    raise KeyboardInterrupt


def _show(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a program for people


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
