"""`make bench`: requests per second and p50, gateway against a bare FastAPI + aiohttp pass-through."""

import argparse
import sys

from bench.compare import compare


def main() -> int:
    """Parse the flags and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds per subject; the best counts")
    parser.add_argument("--connections", type=int, default=32)
    arguments = parser.parse_args()
    return compare(arguments.seconds, arguments.rounds, arguments.connections)


sys.exit(main())
