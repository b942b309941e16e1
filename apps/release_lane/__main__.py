"""`python -m apps.release_lane`; `deploy/release` and `deploy/rollback` call it."""

import sys

from apps.release_lane.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
