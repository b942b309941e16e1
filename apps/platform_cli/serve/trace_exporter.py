"""The process that exports traces: a child of the parent, which reads one pipe of each worker (docs/adr/0033)."""

import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Self

from apps.platform_cli.embedded.child import ChildFailedError, ChildProcess, describe_exit
from platform_app.observability.logging import get_logger

PIPE_BYTES = 1024 * 1024
"""The capacity of each pipe: what Linux allows without privileges by default."""
RESTART_PAUSE_SECONDS = 5.0
MAX_RESTART_PAUSE_SECONDS = 300.0
STEADY_SECONDS = 60.0
STOPPED_SECONDS = 60.0
"""A process that a signal (SIGSTOP) has stopped for this time is replaced: its pipes are full, and traces are lost."""
EXIT_CONFIGURATION = 2
"""Its exit code if the variables of OpenTelemetry are not valid."""
STOP_SECONDS = 5.0
"""The time for the exporter to send what it has when the gateway stops."""

_WATCH_SECONDS = 0.02

_log = get_logger("serve")


class TraceExporter:
    """The exporter's process and the pipes, which outlive it and the workers."""

    def __init__(
        self,
        environment: Mapping[str, str],
        workers: int,
        forget: Callable[[int], None] = lambda pid: None,
        before_start: Callable[[], None] = lambda: None,
    ) -> None:
        """`before_start` prepares what the process needs; `forget` removes what one that ended has left."""
        self._before_start = before_start
        self._environment = environment
        self._forget = forget
        self._process: ChildProcess | None = None
        self._stopped_since: float | None = None
        self._start_at = 0.0
        self._started_at = 0.0
        self._pause = RESTART_PAUSE_SECONDS
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

    @property
    def pid(self) -> int | None:
        """Return the process id; None while it does not run."""
        return None if self._process is None else self._process.pid

    def supervise(self, now: float) -> None:
        """Start the process if it does not run: some seconds after it ended, and later each time.

        If the environment is not valid, it is not started again.
        """
        if self._process is not None:
            code = self._process.poll()
            if code is None and self._is_stopped_too_long(self._process, now):
                _log.error("trace_exporter_stopped", pid=self._process.pid, seconds=STOPPED_SECONDS)
                code = self._process.kill()
            if code is None:
                if now - self._started_at >= STEADY_SECONDS:
                    self._pause = RESTART_PAUSE_SECONDS
                return
            self._note_end(self._process, code, now)
        if now >= self._start_at:
            arguments = [sys.executable, "-m", "apps.trace_exporter", *map(str, self._reading)]
            try:
                self._before_start()
                self._process = ChildProcess(
                    "trace exporter", arguments, env=self._environment, pass_fds=self._reading
                )  # fmt: skip
            except (ChildFailedError, OSError) as error:
                _log.error("trace_exporter_died", pid=None, how=str(error))
                self._postpone(now)
            self._started_at = now

    def _is_stopped_too_long(self, process: ChildProcess, now: float) -> bool:
        if not _is_stopped(process.pid):
            self._stopped_since = None
            return False
        if self._stopped_since is None:
            self._stopped_since = now
        return now - self._stopped_since >= STOPPED_SECONDS

    def _note_end(self, process: ChildProcess, code: int, now: float) -> None:
        _log.error("trace_exporter_died", pid=process.pid, how=describe_exit(code))
        process.kill()
        self._forget(process.pid)
        self._process = self._stopped_since = None
        self._postpone(now)
        if code == EXIT_CONFIGURATION:
            self._start_at = float("inf")

    def _postpone(self, now: float) -> None:
        self._start_at = now + self._pause
        self._pause = min(2 * self._pause, MAX_RESTART_PAUSE_SECONDS)

    def stop(self, seconds: float = STOP_SECONDS, hurry: Callable[[], bool] = lambda: False) -> None:
        """Let the process send what it has, within these seconds and STOP_SECONDS, and end it. `hurry` ends the wait
        early."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send(signal.SIGTERM)
        deadline = time.monotonic() + min(seconds, STOP_SECONDS)
        while process.poll() is None and time.monotonic() < deadline and not hurry():
            time.sleep(_WATCH_SECONDS)
        process.kill()


def _is_stopped(pid: int) -> bool:
    """Return whether a signal has stopped this child. Its exit, if it has ended, stays for `poll`."""
    with suppress(OSError, AttributeError):  # there is no waitid on macOS before Python 3.13
        state = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        return state is not None and state.si_code in (os.CLD_STOPPED, os.CLD_TRAPPED)
    return False


def _enlarge(descriptor: int) -> None:
    # Elsewhere than on Linux, or above the system's limit, the default of 64 KiB holds some thirty traces.
    with suppress(OSError, AttributeError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
