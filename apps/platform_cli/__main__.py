"""`python -m apps.platform_cli`, the same as `flowbiz-platform`."""

import gc
import signal
import sys

from apps.platform_cli.serve.start_signals import handle_start_signals
from apps.platform_cli.terminal.output import guard_streams, open_missing_streams

# Ctrl-C while modules load ends the process at once, without a traceback.
signal.signal(signal.SIGINT, signal.SIG_DFL)
if sys.argv[1:2] == ["serve"]:
    # Before the modules load: the first process of a container would ignore SIGTERM until then.
    handle_start_signals()

# While modules load there is no garbage to collect, and collecting takes a quarter of the start time.
gc.disable()


# Before the modules, because they may open files.
open_missing_streams()

from apps.platform_cli.main import run  # noqa: E402 - see above


def start() -> None:
    """Run the command line, with the loaded modules excluded from garbage collection."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.freeze()
    gc.enable()
    guard_streams()
    run()


if __name__ == "__main__":
    start()
