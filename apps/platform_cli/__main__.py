"""`python -m apps.platform_cli`, the same as `flowbiz-platform`."""

import gc

# Collecting garbage while modules load finds none, and takes a quarter of the time until a command starts.
gc.disable()

from apps.platform_cli.main import run  # noqa: E402 - see above


def start() -> None:
    """Run the command line; what is loaded is never looked at again by the collector."""
    gc.freeze()
    gc.enable()
    run()


if __name__ == "__main__":
    start()
