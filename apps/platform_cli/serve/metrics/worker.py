"""Aggregate the workers' metrics: each worker counts in its own files, and the parent adds them up for a scrape."""

import errno
import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from prometheus_client import CollectorRegistry

from apps.platform_cli.embedded.errors import EmbeddedError
from apps.platform_cli.embedded.lock import DirectoryLock
from apps.platform_cli.embedded.private_file import is_private_directory
from apps.platform_cli.serve.dead_workers import forget_worker
from apps.platform_cli.serve.metrics.collector import WorkersCollector
from apps.platform_cli.serve.metrics.server import MetricsCache, MetricsServer
from platform_app.errors import ConfigurationError
from platform_app.observability.logging import get_logger
from platform_app.observability.metrics import OF_THE_PARENT

_PREFIX = "flowbiz-platform-metrics-"
_LOCK = ".lock"
_YOUNG_SECONDS = 60.0
"""A directory this young may belong to a process that has not locked it yet."""

_log = get_logger("serve")


class WorkerDirectory:
    """The directory in which workers count (PROMETHEUS_MULTIPROC_DIR), locked while the parent lives.

    Cleaners of temporary files may remove what looks old to them. systemd-tmpfiles leaves a locked directory alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity = _identity(path)
        self._locks = ExitStack()

    def is_own(self) -> bool:
        """Return whether the path still leads to the directory that was made. All users share the temporary directory:
        where it was removed, another user may make a directory or a link of the same name."""
        return is_private_directory(self.path) and _identity(self.path) == self._identity

    def checked_path(self) -> Path:
        """Return the path. Raises FileNotFoundError if the directory was removed or replaced."""
        if not self.is_own():
            raise FileNotFoundError(errno.ENOENT, "The directory was removed or replaced", str(self.path))
        return self.path

    def ensure(self) -> None:
        """Make the directory again if something removed or replaced it, under another name if this one is taken:
        without it no worker can start. What the running workers counted is lost with it."""
        if self.is_own():
            return
        removed = self.path
        self.release()
        try:
            self.path.mkdir(mode=0o700)
        except FileExistsError:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._identity = _identity(self.path)
        self.lock()
        _log.error(
            "metrics_directory_removed",
            removed=str(removed),
            directory=str(self.path),
            advice="exclude it from the cleaner of temporary files, and restart the gateway to count all workers again",
        )

    def forget(self, pid: int) -> None:
        """Keep the counters of a process that has ended, and remove its files and gauges. Never raises."""
        if self.is_own():
            forget_worker(pid, self.path)

    def lock(self) -> None:
        """Lock the directory for other parents, which sweep, and for systemd-tmpfiles."""
        self._locks.enter_context(DirectoryLock(self.path / _LOCK))
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        self._locks.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def release(self) -> None:
        """Give up the locks."""
        with suppress(OSError):
            self._locks.close()


@contextmanager
def serve_metrics(listening: socket.socket, cache_seconds: float = 1.0) -> Iterator[WorkerDirectory]:
    """Serve `/metrics` on a listening socket. Yield the directory in which workers count.

    Raises:
        ConfigurationError: there is no temporary directory that this process can write.
    """
    directory = WorkerDirectory(_make_directory())
    try:
        directory.lock()
        registry = CollectorRegistry()
        registry.register(WorkersCollector(directory.checked_path))
        for metric in OF_THE_PARENT:
            registry.register(metric)
        with MetricsServer(listening, MetricsCache(registry, cache_seconds)):
            yield directory
    finally:
        directory.release()
        if directory.is_own():
            shutil.rmtree(directory.path, ignore_errors=True)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the device and the number of a directory; None if there is none."""
    with suppress(OSError):
        status = path.lstat()
        return status.st_dev, status.st_ino
    return None


def _make_directory() -> Path:
    try:
        _sweep()
        return Path(tempfile.mkdtemp(prefix=_PREFIX))
    except OSError:
        tried = os.environ.get("TMPDIR") or "/tmp, /var/tmp, /usr/tmp and the current directory"  # noqa: S108 - a message
        raise ConfigurationError(
            [
                f"TMPDIR: no temporary directory can be written (tried {tried}); workers count their "
                "metrics there. Make /tmp writable, or set TMPDIR to a writable directory"
            ]
        ) from None


def _sweep() -> None:
    """Remove the directories of killed parents, whose locks no process holds any more.

    All users share the temporary directory, so only private directories of this user are read, and no link is followed.
    """
    for directory in Path(tempfile.gettempdir()).glob(_PREFIX + "*"):
        with suppress(OSError, EmbeddedError):
            if is_private_directory(directory) and time.time() - directory.lstat().st_mtime > _YOUNG_SECONDS:
                with DirectoryLock(directory / _LOCK):
                    shutil.rmtree(directory)
