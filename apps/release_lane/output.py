"""What the lane prints. A closed or full output never stops an operation between two steps."""

import os
import sys
from typing import TextIO


def show(line: str) -> None:
    """Print a line at once: a pipe shows each step when it begins."""
    _write(sys.stdout, line)


def complain(line: str) -> None:
    """Print a line to the standard error."""
    _write(sys.stderr, line)


def _write(stream: TextIO, line: str) -> None:
    try:
        try:
            print(line, file=stream, flush=True)
        except UnicodeEncodeError:
            print(line.encode("ascii", "backslashreplace").decode(), file=stream, flush=True)
    except (OSError, ValueError):
        _discard(stream)


def _discard(stream: TextIO) -> None:
    """Send what follows nowhere, so that neither the next line nor Python's last flush fails."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        return
