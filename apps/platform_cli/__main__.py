"""`python -m apps.platform_cli`, the same as `flowbiz-platform`."""

import gc
import os
import signal
import sys

from apps.platform_cli.serve.start_signals import handle_start_signals

# Ctrl-C while modules load ends the process at once, without a traceback.
signal.signal(signal.SIGINT, signal.SIG_DFL)
if sys.argv[1:2] == ["serve"]:
    # Before the modules load: the first process of a container would ignore SIGTERM until then.
    handle_start_signals()

# While modules load there is no garbage to collect, and collecting takes a quarter of the start time.
gc.disable()


def open_missing_streams() -> None:
    """Open stdin, stdout and stderr on /dev/null where the caller closed them. Otherwise the next file or socket that
    is opened gets the number, and output is written into it."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number
            os.set_inheritable(opened, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "r" if descriptor == 0 else "w", closefd=False))  # noqa: SIM115


# Before the modules, because they may open files.
open_missing_streams()

from apps.platform_cli.main import run  # noqa: E402 - see above


def start() -> None:
    """Run the command line, with the loaded modules excluded from garbage collection."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.freeze()
    gc.enable()
    run()


if __name__ == "__main__":
    start()
