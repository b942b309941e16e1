"""`make hostile`: ten minutes of hostile input; prints what was measured, and fails if a demand was not met."""

import argparse
import sys

from tests.attacks.soak.soak import run_soak


def main() -> int:
    """Return 1 if a demand was not met."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="of hostile input, all turns together")
    parser.add_argument("--any-machine", action="store_true", help="judge only what holds on a busy machine")
    options = parser.parse_args()
    soak = run_soak(options.seconds, _show)
    _show(f"\n{soak.table()}")
    faults = soak.robust_faults() if options.any_machine else soak.faults()
    _show("\n".join(faults) or "every demand was met")
    return 1 if faults else 0


def _show(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a program for people


if __name__ == "__main__":
    sys.exit(main())
