"""Write the lines of kept requests to the exporter's pipe, without ever waiting.

The pipe holds a megabyte. What does not fit is dropped and counted: tracing never slows a request down.
"""

import os

from platform_app.observability import metrics

DESCRIPTOR_VARIABLE = "FLOWBIZ_TRACE_FD"
"""The environment variable with the pipe's writing end, which the parent process sets for each worker."""
MAX_LINE_BYTES = 65_536


class TraceSender:
    """Writes to one pipe. One process writes to it, so lines are not mixed."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._rest = b"\n"
        """The rest of a line that the pipe took in part. A line feed first: the worker before may have died in a
        line."""

    def send(self, line: bytes) -> None:
        """Write one line, or drop it. Never blocks and never raises."""
        if len(line) > MAX_LINE_BYTES:
            metrics.TRACES_DROPPED.labels("too_large").inc()
            return
        try:
            if self._rest:
                self._rest = self._rest[os.write(self._descriptor, self._rest) :]
            if self._rest:
                metrics.TRACES_DROPPED.labels("pipe_full").inc()
                return
            self._rest = line[os.write(self._descriptor, line) :]
        except BlockingIOError:
            metrics.TRACES_DROPPED.labels("pipe_full").inc()
        except OSError:  # the exporter and the parent have ended
            metrics.TRACES_DROPPED.labels("no_exporter").inc()


def sender_of_parent() -> TraceSender | None:
    """Return the sender of this worker; None if its parent exports no traces."""
    descriptor = os.environ.get(DESCRIPTOR_VARIABLE, "")
    return TraceSender(int(descriptor)) if descriptor.isdecimal() else None
