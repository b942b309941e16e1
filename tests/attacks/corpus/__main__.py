"""Send the corpus to a running server and print one line for each case that went wrong.

python -m tests.attacks.corpus --port 8100 --key "$PLATFORM_CHAT_KEY"
"""

import argparse
import collections
import sys

from tests.attacks.corpus import CORPUS
from tests.attacks.corpus.case import run_case


def main() -> int:
    """Return 1 if any case failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds until a connection counts as never closed")
    parser.add_argument("--seed", type=int, default=None, help="send in random chunks")
    parser.add_argument("--any-refusal", action="store_true", help="a refusal need not be in our form")
    options = parser.parse_args()
    failed: collections.Counter[str] = collections.Counter()
    for case in CORPUS:
        address = ("127.0.0.1", options.port)
        judgement = run_case(
            address, case, options.key, options.seed, options.timeout, our_refusals=not options.any_refusal
        )
        if not judgement.good:
            failed[case.name.partition("-")[0]] += 1
            print(f"{case.name}: {'; '.join(judgement.faults)}")  # noqa: T201 - a program for people
    print(f"{len(CORPUS) - failed.total()} of {len(CORPUS)} as demanded; failed by area: {dict(failed)}")  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
