"""`make soak`: half an hour of ordinary traffic; prints the slopes, and fails if something grows."""

import argparse
import sys

from tests.chaos.soak.soak import run_soak

HALF_CAPACITY = 400.0
"""Requests each second, half of what one worker gets through on one core of the machine of docs/capacity.md."""


def main() -> int:
    """Return 1 if a demand was not met."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0, help="after the warm-up")
    parser.add_argument("--warm-up", type=float, default=900.0, help="seconds before the first sample")
    parser.add_argument("--per-second", type=float, default=HALF_CAPACITY, help="requests each second")
    parser.add_argument("--any-machine", action="store_true", help="judge only what holds on a busy machine")
    options = parser.parse_args()
    soaked = run_soak(options.warm_up, options.seconds, options.per_second, _show)
    _show(f"\n{soaked.table()}\n\n{dict(soaked.results)}, {soaked.reloads} reloads")
    faults = soaked.robust_faults() if options.any_machine else soaked.faults()
    _show("\n".join(faults) or "every demand was met")
    return 1 if faults else 0


def _show(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a program for people


if __name__ == "__main__":
    sys.exit(main())
