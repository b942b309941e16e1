"""The life cycle of an embedded server: one child process that is started, frozen, killed and stopped."""

import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from apps.platform_cli.embedded.child import ChildProcess
from apps.platform_cli.embedded.errors import EmbeddedError

READY_SECONDS = 60.0


class EmbeddedServer(ABC):
    """The base of the embedded PostgreSQL and Valkey.

    Call `start`, `stop` and the other methods from a thread that lives as long as the server should; see
    `ChildProcess`.
    """

    name: ClassVar[str]
    """The server's name in messages."""
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_seconds: ClassVar[float] = 5.0

    def __init__(self) -> None:
        self._child: ChildProcess | None = None

    @property
    def child(self) -> ChildProcess:
        """The running process.

        Raises:
            EmbeddedError: the server was not started.
        """
        if self._child is None:
            raise EmbeddedError(f"{self.name} is not started")
        return self._child

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self.child.pid

    def start(self, timeout_seconds: float = READY_SECONDS) -> None:
        """Start the server and wait until it responds.

        Raises:
            EmbeddedError: it cannot be started; the message says what to do.
        """
        self.spawn()
        self.wait_ready(timeout_seconds)

    @abstractmethod
    def spawn(self) -> None:
        """Clean up after an earlier run, and start the server.

        Raises:
            EmbeddedError: it cannot be started; the message says what to do.
        """

    @abstractmethod
    def responds(self) -> bool:
        """Return whether the server accepts commands now."""

    def wait_ready(self, timeout_seconds: float = READY_SECONDS, on_wait: Callable[[], None] | None = None) -> None:
        """Wait until the server responds. `on_wait` is called between the checks and may raise.

        Raises:
            ChildFailedError: the server ended, or is not ready in time.
        """
        self.child.wait_ready(self.responds, timeout_seconds, on_wait)

    def stop(self, grace_seconds: float | None = None) -> None:
        """Stop the server, by SIGKILL after the grace period. Do nothing if it was not started."""
        if self._child is not None:
            self._child.stop(self.stop_seconds if grace_seconds is None else grace_seconds, self.stop_signal)
            self._child = None

    def kill(self) -> None:
        """Kill all of the server's processes at once, as a crash does."""
        self.child.kill()
        self._child = None

    def restart(self, timeout_seconds: float = READY_SECONDS) -> None:
        """Stop and start again, at the same address."""
        self.stop()
        self.start(timeout_seconds)

    def pause(self) -> None:
        """Freeze the server: connections stay open and it does not respond."""
        # Each of PostgreSQL's backends has its own session, so this suspends the process tree and not the group.
        self.child.pause()

    def resume(self) -> None:
        """Undo `pause`."""
        self.child.resume()

    def check_not_running(self) -> None:
        """Raise EmbeddedError if this object's server still runs."""
        if self._child is not None and self._child.poll() is None:
            raise EmbeddedError(f"{self.name} already runs as process {self._child.pid}")
