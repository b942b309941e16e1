"""All workers' metrics as one: each counts in files of its own, and the parent adds them up when it is asked."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from apps.platform_cli.embedded.lock import DirectoryLock, LockedError

_PREFIX = "flowbiz-platform-metrics-"
_LOCK = ".lock"
_YOUNG_SECONDS = 60.0
"""A directory this young may belong to a process that has not locked it yet."""


@contextmanager
def serve_metrics(host: str, port: int) -> Iterator[Path]:
    """Serve `/metrics`; yields the directory that workers count in (PROMETHEUS_MULTIPROC_DIR).

    Raises:
        OSError: the port cannot be had.
    """
    _sweep()
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        with DirectoryLock(directory / _LOCK):
            registry = CollectorRegistry()
            MultiProcessCollector(registry, path=str(directory))  # type: ignore[no-untyped-call]  # prometheus_client
            server, thread = start_http_server(port, host, registry)
            try:
                yield directory
            finally:
                server.shutdown()
                server.server_close()
                thread.join(timeout=5)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def forget_worker(pid: int, directory: Path) -> None:
    """Drop a dead worker's gauges; what it counted stays counted."""
    mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]  # prometheus_client


def _sweep() -> None:
    """Remove what parents left that were killed: nobody holds its lock any more."""
    for directory in Path(tempfile.gettempdir()).glob(_PREFIX + "*"):
        with suppress(OSError, LockedError):
            if time.time() - directory.stat().st_mtime > _YOUNG_SECONDS:
                with DirectoryLock(directory / _LOCK):
                    shutil.rmtree(directory)
