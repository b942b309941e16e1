"""The process that exports traces: a child of the parent, which reads one pipe of each worker (docs/adr/0033)."""

import fcntl
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

from apps.platform_cli.embedded.child import ChildProcess, describe_exit
from platform_app.observability.logging import get_logger

PIPE_BYTES = 1024 * 1024
"""The capacity of each pipe: what Linux allows without privileges by default."""
RESTART_PAUSE_SECONDS = 5.0
STOP_SECONDS = 5.0
"""The time for the exporter to send what it has when the gateway stops."""

_log = get_logger("serve")


class TraceExporter:
    """The exporter's process and the pipes, which outlive it and the workers."""

    def __init__(self, environment: Mapping[str, str], workers: int) -> None:
        self._environment = environment
        self._process: ChildProcess | None = None
        self._start_at = 0.0
        self._reading: list[int] = []
        self.writing: list[int] = []
        """The writing ends, one for each worker's slot."""
        for _ in range(workers):
            reading, writing = os.pipe()
            self._reading.append(reading)
            self.writing.append(writing)
            _enlarge(writing)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for descriptor in (*self._reading, *self.writing):
            os.close(descriptor)

    def supervise(self, now: float) -> None:
        """Start the process if it does not run, some seconds after it ended."""
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            _log.error("trace_exporter_died", pid=self._process.pid, how=describe_exit(code))
            self._process.kill()
            self._process, self._start_at = None, now + RESTART_PAUSE_SECONDS
        if now >= self._start_at:
            arguments = [sys.executable, "-m", "apps.trace_exporter", *map(str, self._reading)]
            self._process = ChildProcess(
                "trace exporter", arguments, env=self._environment, pass_fds=self._reading
            )  # fmt: skip

    def stop(self) -> None:
        """Let the process send what it has, within STOP_SECONDS, and end it."""
        process, self._process = self._process, None
        if process is not None:
            process.stop(STOP_SECONDS)


def _enlarge(descriptor: int) -> None:
    # Elsewhere than on Linux, or above the system's limit, the default of 64 KiB holds some thirty traces.
    with suppress(OSError, AttributeError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
