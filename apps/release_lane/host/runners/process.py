"""Instances as plain processes: for tests, and for hosts without systemd."""

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from apps.release_lane.commands import minimal_environment
from apps.release_lane.environment_file import read_environment
from apps.release_lane.errors import LaneError
from apps.release_lane.host.slots import Slots

_POLL_SECONDS = 0.1


class ProcessRunner:
    """Starts `bin/flowbiz-platform serve` detached from the lane, with its id in a file."""

    def __init__(
        self, slots: Slots, environment: Callable[[], Mapping[str, str]], sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._slots = slots
        self._environment = environment
        self._sleep = sleep

    def running(self, port: int) -> bool:
        """Return whether the process of this port runs."""
        return self._pid(port) is not None

    def start(self, port: int) -> None:
        """Start the process. It writes its id before it becomes the gateway, so a lane that is killed loses none."""
        if self.running(port):
            return
        self._file(port).unlink(missing_ok=True)
        directory = self._slots.directory(port)
        command = (directory / "release" / "bin" / "flowbiz-platform").resolve()
        environment = {
            **minimal_environment(),
            **self._environment(),
            **read_environment(directory / "instance.env"),
        }
        script = 'echo $$ > "$1.partial" && mv "$1.partial" "$1" && cd "${1%/*}" && shift && exec "$@"'
        arguments = [str(command), "serve", "--port", str(port)]
        log = (os.POSIX_SPAWN_OPEN, 1, self.log_of(port), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
        try:
            # Not subprocess, which warns of a child that outlives its parent.
            os.posix_spawn(
                "/bin/sh",
                ["/bin/sh", "-c", script, "sh", str(self._file(port)), *arguments],
                environment,
                file_actions=[nothing, log, (os.POSIX_SPAWN_DUP2, 1, 2)],
                setsid=True,
            )
        except OSError as error:
            raise LaneError(f"{command}: {error.strerror}") from None
        for _ in range(600):
            if self._file(port).exists():
                return
            self._sleep(_POLL_SECONDS)
        raise LaneError(f"the process of port {port} wrote no id", f"Read {self.log_of(port)}.")

    def stop(self, port: int, seconds: float) -> None:
        """Send SIGTERM and wait."""
        pid = self._pid(port)
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
        waited = 0.0
        while self.running(port):
            if waited >= seconds:
                what = f"process {pid} of port {port} did not end within {seconds:g} s"
                raise LaneError(what, f"Read {self.log_of(port)}.")
            self._sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS
        self._file(port).unlink(missing_ok=True)

    def log_of(self, port: int) -> str:
        """Return the file with the process's output."""
        return str(self._slots.directory(port) / "output.log")

    def _pid(self, port: int) -> int | None:
        """Return the id of the running process. An id that the system gave to another program does not count."""
        try:
            pid = int(self._file(port).read_text())
            _reap(pid)
            process = Path("/proc") / str(pid)
            arguments = (process / "cmdline").read_bytes().split(b"\0")
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, ValueError):
            return None
        return pid if state != "Z" and str(port).encode() in arguments else None

    def _file(self, port: int) -> Path:
        return self._slots.directory(port) / "pid"


def _reap(pid: int) -> None:
    """Collect the exit code of an ended child of this process."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
