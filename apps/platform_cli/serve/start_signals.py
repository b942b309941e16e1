"""Signals before the parent supervises: while modules load, and while configuration and database are checked.

Without a handler the first process of a container ignores SIGTERM, and elsewhere SIGHUP would end the start. This
module imports little, because `__main__` installs the handlers before anything else.
"""

import atexit
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

END_SECONDS = 3.0
"""The time for connections and files to be closed. A database that does not respond must not delay the end."""
_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_NOTED = (signal.SIGHUP, signal.SIGUSR1)
"""The config file is read during the start anyway, and the level is the workers' from their start on."""
_received = 0


def handle_start_signals() -> None:
    """From now on a stop signal ends the process with exit code 0, a second one at once."""
    for number in _STOP:
        signal.signal(number, _stop)
    signal.signal(signal.SIGALRM, _end)
    for number in _NOTED:
        signal.signal(number, _ignore)  # not SIG_IGN, which the workers would inherit


def hold_signals() -> None:
    """Let signals wait while the process replaces its program, which removes the handlers."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (*_STOP, *_NOTED))


def release_signals() -> None:
    """Deliver the signals that waited."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*_STOP, *_NOTED))


def _stop(number: int, frame: FrameType | None) -> None:
    global _received  # noqa: PLW0603 - the signals of a process are global
    _received += 1
    if _received > 1:
        _end(number, frame)
    signal.setitimer(signal.ITIMER_REAL, END_SECONDS)
    # Python's end removes the handlers, and the timer's signal would then kill the process.
    atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)
    sys.exit(0)


def _end(_: int, __: FrameType | None) -> NoReturn:
    os._exit(0)


def _ignore(_: int, __: FrameType | None) -> None:
    """Let the start continue."""
