"""stdout and stderr of a command. Output that is lost ends the command with a message and an exit code other than 0;
a message to stderr that is lost changes nothing.

This module imports little, because `__main__` uses it before anything else.
"""

import codecs
import errno
import io
import os
import select
import stat
import sys
from typing import Any

CLOSED = "stdout is closed"
_ESCAPED = "flowbiz-escaped"
"""The name of the handler of characters that the output's encoding lacks."""


class OutputLostError(Exception):
    """stdout cannot be written. Not an OSError, so that no handler takes it for a failure of a server or a file."""

    def __init__(self, number: int, consequence: str = "") -> None:
        super().__init__(number)
        self.number = number
        self.consequence = consequence
        """What is lost besides lines, for the message; empty if nothing is."""

    @property
    def is_closed_pipe(self) -> bool:
        """Whether the reader closed the pipe, as `head` does when it has enough."""
        return self.number == errno.EPIPE

    def __str__(self) -> str:
        reason = CLOSED if self.number == errno.EBADF else os.strerror(self.number)
        advice = "Write it to a file, a pipe or a terminal that takes it."
        if self.number in (errno.ENOSPC, errno.EDQUOT):
            advice = "Free space, or write it to another place."
        return f"The output cannot be written: {reason}. {self.consequence or advice}"


class _Output(io.FileIO):
    def write(self, data: Any) -> int:
        try:
            while (written := super().write(data)) is None:
                select.select([], [self], [])  # another process made the pipe non-blocking, and it is full
        except OSError as error:
            raise OutputLostError(error.errno or errno.EIO) from None
        return written


class _Messages(io.FileIO):
    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        try:
            written = super().write(data)
        except OSError:
            return size
        return size if written is None else written


def open_missing_streams() -> None:
    """Open stdin, stdout and stderr on /dev/null where the caller closed them. Otherwise the next file or socket that
    is opened gets the number, and output is written into it. stdout is opened for reading, so that writing fails."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR if descriptor == 2 else os.O_RDONLY)  # the lowest free number
            os.set_inheritable(opened, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "r" if descriptor == 0 else "w", closefd=False))  # noqa: SIM115


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Write characters that the output's encoding lacks as JSON does, so that JSON stays JSON."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4)), error.end


def guard_streams() -> None:
    """Let stdout raise OutputLostError, and stderr nothing, if they cannot be written."""
    codecs.register_error(_ESCAPED, _escape)
    for name, kind in (("stdout", _Output), ("stderr", _Messages)):
        stream = getattr(sys, name)
        stream.flush()
        setattr(
            sys,
            name,
            io.TextIOWrapper(
                io.BufferedWriter(kind(stream.fileno(), "w", closefd=False)),
                encoding=stream.encoding,
                errors=_ESCAPED,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            ),
        )


def discard_output() -> None:
    """Send what is still buffered to nowhere: it cannot be written."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def output_problem() -> int | None:
    """Return the error number if stdout is known to take nothing: it is closed, its reader closed the pipe, or it is a
    file on a full disk. None does not promise that it can be written."""
    import fcntl  # noqa: PLC0415 - only few commands ask

    if fcntl.fcntl(1, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        return errno.EBADF
    poll = select.poll()
    poll.register(1, 0)
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        return errno.EPIPE
    if stat.S_ISREG(os.fstat(1).st_mode) and os.fstatvfs(1).f_bfree == 0:
        return errno.ENOSPC
    return None


def require_output(consequence: str) -> None:
    """Refuse a command whose output cannot be repeated, before it does anything.

    Raises:
        OutputLostError: stdout is known to take nothing.
    """
    if (number := output_problem()) is not None:
        raise OutputLostError(number, consequence)
