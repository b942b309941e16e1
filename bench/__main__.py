"""`make bench`: requests per second and p50 against a bare FastAPI + aiohttp pass-through and, optionally, Portkey."""

import argparse
import sys
from pathlib import Path

from bench.compare import compare


def main() -> int:
    """Parse the flags and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of one round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds per subject; the best one is shown")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument(
        "--portkey", type=Path, metavar="DIR",
        help="also compare with Portkey: the directory where `npm install @portkey-ai/gateway` was run (needs node)",
    )  # fmt: skip
    parser.add_argument("--traces", action="store_true", help="also compare traces at 0, 10 and 100 %%")
    parser.add_argument("--formats", action="store_true", help="also compare /v1/responses and /v1/messages")
    arguments = parser.parse_args()
    return compare(
        arguments.seconds,
        arguments.rounds,
        arguments.connections,
        arguments.portkey,
        traces=arguments.traces,
        formats=arguments.formats,
    )


sys.exit(main())
