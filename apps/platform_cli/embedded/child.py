"""A child process that does not outlive its parent, and the clean-up after a killed parent."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from apps.platform_cli.embedded import processes
from apps.platform_cli.embedded.account import Account
from apps.platform_cli.embedded.errors import EmbeddedError
from apps.platform_cli.embedded.private_file import open_private, read_private, replace_private

_MAX_LOG_BYTES = 10 * 1024 * 1024
_PR_SET_PDEATHSIG = 1
# Resolved here, before any fork: between fork and exec a child must not load libraries.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


class ChildFailedError(EmbeddedError):
    """A child process ended, or was not ready in time. The message ends with the last lines of its log."""


class ChildProcess:
    """A child process in its own session, so that a terminal's Ctrl-C reaches only the parent.

    On Linux the kernel sends it `death_signal` when the thread that started it ends, and so also when the parent is
    killed with SIGKILL. Therefore start children from the main thread, or from a thread that lives as long as they
    should. On other systems the next start ends it by its PID file; see `reap_leftover`.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log_file: Path | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        account: Account | None = None,
        death_signal: signal.Signals | None = signal.SIGTERM,
        pid_file: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start the process.

        Args:
            name: its name in messages.
            argv: the program, as a path, and its arguments.
            log_file: its output is appended to this file; None inherits this process's output.
            env: its whole environment; None inherits this process's.
            cwd: its working directory; None inherits this process's.
            account: the user to run as; None for the current user.
            death_signal: the signal that it receives when its parent dies; None for no signal.
            pid_file: the file that records it for `reap_leftover`.
            pass_fds: descriptors that it inherits, for example a listening socket.

        Raises:
            ChildFailedError: it cannot be started.
        """
        self.name = name
        self._log_file = log_file
        self._log_start = 0
        self._code: int | None = None
        self._pid_file = pid_file
        log = self._open_log()
        try:
            with warnings.catch_warnings():
                # From Python 3.12 on, forking in a process with threads warns. Between fork and exec the child only
                # calls prctl and getppid, which take no lock.
                warnings.simplefilter("ignore", DeprecationWarning)
                self._popen = subprocess.Popen(  # noqa: S603 - argv is the caller's, no shell
                    list(argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd=cwd,
                    start_new_session=True, pass_fds=pass_fds, preexec_fn=_die_with_parent(death_signal),
                    user=account.uid if account else None, group=account.gid if account else None,
                    extra_groups=[] if account else None,
                )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            raise ChildFailedError(f"{name} cannot be started: {error}") from error
        finally:
            if log is not None:
                log.close()
        if pid_file is not None:
            replace_private(pid_file, f"{self.pid}\n{processes.birth_mark(self.pid)}\n")

    def __del__(self) -> None:
        """Reap a process that ended by itself and was never stopped."""
        if getattr(self, "_popen", None) is not None and self.poll() is not None:
            self._popen.wait()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._popen.pid

    def poll(self) -> int | None:
        """The exit code (negative: the signal that ended it), or None while it runs.

        The process is not reaped: while it is a zombie, no other process can get its id or its group's, so that `kill`
        cannot hit another process. Where many processes are started, ids are reused within minutes.
        """
        if self._code is None and self._popen.returncode is None:
            if not hasattr(os, "waitid"):  # macOS before Python 3.13
                return self._popen.poll()
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is not None:
                self._code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        return self._code if self._popen.returncode is None else self._popen.returncode

    def wait_ready(
        self, ready: Callable[[], bool], timeout_seconds: float, on_wait: Callable[[], None] | None = None
    ) -> None:
        """Wait until `ready` returns True. `on_wait` is called between the calls, and its exception ends the wait.

        Raises:
            ChildFailedError: the process ended, or the timeout expired.
        """
        deadline = time.monotonic() + timeout_seconds
        while not ready():
            if self.poll() is not None:
                raise self.failure()
            if time.monotonic() > deadline:
                raise ChildFailedError(f"{self.name} was not ready within {timeout_seconds:g} s{self._tail_text()}")
            if on_wait is not None:
                on_wait()
            time.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        """Send a signal if the process still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def stop(self, grace_seconds: float = 5.0, number: signal.Signals = signal.SIGTERM) -> int:
        """Send SIGTERM; after the grace period kill the process and all its descendants. Return the exit code."""
        if self.poll() is None:
            os.kill(self.pid, number)
            self.resume()  # a stopped process handles only SIGKILL until it continues
            deadline = time.monotonic() + grace_seconds
            while self.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
        return self.kill()

    def kill(self) -> int:
        """Kill the process and all its descendants now. Return the exit code."""
        if self.poll() is None:
            for pid in [self.pid, *processes.descendants(self.pid)]:
                processes.send(pid, signal.SIGKILL)
        if self._popen.returncode is None:
            # Children of a process that ended by itself are no longer its descendants, but still in its group.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        code = self._popen.wait()
        if self._pid_file is not None:
            self._pid_file.unlink(missing_ok=True)
        return code

    def pause(self) -> None:
        """Freeze the process and all its descendants, whatever their session."""
        processes.freeze(self.pid)

    def resume(self) -> None:
        """Undo `pause`."""
        processes.thaw(self.pid)

    def failure(self) -> ChildFailedError:
        """Return the error for a process that ended by itself."""
        return ChildFailedError(f"{self.name} ended: {describe_exit(self.poll())}{self._tail_text()}")

    def log_tail(self, lines: int = 12) -> list[str]:
        """Return the last lines of its log file; none if it has no log file."""
        if self._log_file is None:
            return []
        try:
            with self._log_file.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, size - 16_384))
                return log.read().decode(errors="replace").splitlines()[-lines:]
        except OSError:
            return []

    def _tail_text(self) -> str:
        tail = self.log_tail()
        return f"\nThe end of {self._log_file}:\n  " + "\n  ".join(tail) if tail else ""

    def _open_log(self) -> BinaryIO | None:
        if self._log_file is None:
            return None
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        log = os.fdopen(open_private(self._log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab")
        os.set_blocking(log.fileno(), True)
        if log.tell() > _MAX_LOG_BYTES:
            log.truncate(0)
        self._log_start = log.seek(0, os.SEEK_END)
        return log


def describe_exit(code: int | None) -> str:
    """Describe an exit code."""
    if code is None:
        return "still running"
    if code >= 0:
        return f"exit code {code}"
    if -code == signal.SIGBUS:
        return "killed by SIGBUS (a mapped file has no room: free space on the disks of PLATFORM_SPOOL_DIR and TMPDIR)"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def reap_leftover(pid_file: Path, grace_seconds: float = 3.0) -> int | None:
    """End the process that an earlier run recorded in `pid_file`, if it still runs, and remove the file.

    Another process that has the same id now is left alone, because the file also records the start time. Return the
    id of the ended process.

    Raises:
        EmbeddedError: the process does not end, or the file belongs to another user.
    """
    text = read_private(pid_file)
    if text is None:
        return None
    lines = text.splitlines()
    ended = None
    if len(lines) == 2 and lines[0].isdigit():
        pid = int(lines[0])
        if processes.is_running(pid) and processes.birth_mark(pid) == lines[1]:
            if not processes.end(pid, ((signal.SIGTERM, grace_seconds),)):
                raise EmbeddedError(f"process {pid} of an earlier run cannot be ended; end it by hand")
            ended = pid
    pid_file.unlink(missing_ok=True)
    return ended


def _die_with_parent(number: signal.Signals | None) -> Callable[[], None] | None:
    """Return the function that a new child runs before its program. CPython changes the user before it, because that
    would clear the setting."""
    if _prctl is None or number is None:
        return None
    prctl, parent = _prctl, os.getpid()

    def preexec() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the line above
            os._exit(1)

    return preexec
