"""`python -m apps.platform_cli`, the same as `flowbiz-platform`."""

import gc

# While modules load there is no garbage to collect, and collecting takes a quarter of the start time.
gc.disable()

from apps.platform_cli.main import run  # noqa: E402 - see above


def start() -> None:
    """Run the command line, with the loaded modules excluded from garbage collection."""
    gc.freeze()
    gc.enable()
    run()


if __name__ == "__main__":
    start()
