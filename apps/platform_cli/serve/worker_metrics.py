"""All workers' metrics as one: each counts in files of its own, and the parent adds them up when it is asked."""

import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from apps.platform_cli.embedded.errors import EmbeddedError
from apps.platform_cli.embedded.lock import DirectoryLock
from apps.platform_cli.embedded.private_file import is_private_directory
from apps.platform_cli.serve.metrics_server import MetricsCache, MetricsServer
from platform_app.observability.metrics import WORKER_RESTARTS

_PREFIX = "flowbiz-platform-metrics-"
_LOCK = ".lock"
_YOUNG_SECONDS = 60.0
"""A directory this young may belong to a process that has not locked it yet."""
_BACKLOG = 128


@contextmanager
def serve_metrics(host: str, port: int, cache_seconds: float = 1.0) -> Iterator[Path]:
    """Serve `/metrics`; yields the directory that workers count in (PROMETHEUS_MULTIPROC_DIR).

    Raises:
        OSError: the port cannot be had.
    """
    _sweep()
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        with DirectoryLock(directory / _LOCK), _listen(host, port) as listening:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, path=str(directory))  # type: ignore[no-untyped-call]  # prometheus_client
            registry.register(WORKER_RESTARTS)  # counted by the parent
            with MetricsServer(listening, MetricsCache(registry, cache_seconds)):
                yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def forget_worker(pid: int, directory: Path) -> None:
    """Drop a dead worker's gauges; what it counted stays counted."""
    mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]  # prometheus_client


def _sweep() -> None:
    """Remove what parents left that were killed: no process holds its lock any more.

    The temporary directory is everybody's: only directories that are ours alone are looked into, and no link is
    followed.
    """
    for directory in Path(tempfile.gettempdir()).glob(_PREFIX + "*"):
        with suppress(OSError, EmbeddedError):
            if is_private_directory(directory) and time.time() - directory.lstat().st_mtime > _YOUNG_SECONDS:
                with DirectoryLock(directory / _LOCK):
                    shutil.rmtree(directory)


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
        listening.setblocking(False)
        yield listening
