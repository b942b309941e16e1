"""Aggregate the workers' metrics: each worker counts in its own files, and the parent adds them up for a scrape."""

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prometheus_client import CollectorRegistry

from apps.platform_cli.embedded.errors import EmbeddedError
from apps.platform_cli.embedded.lock import DirectoryLock
from apps.platform_cli.embedded.private_file import is_private_directory
from apps.platform_cli.serve.metrics.collector import WorkersCollector
from apps.platform_cli.serve.metrics.server import MetricsCache, MetricsServer
from platform_app.errors import ConfigurationError
from platform_app.observability.metrics import OF_THE_PARENT

_PREFIX = "flowbiz-platform-metrics-"
_LOCK = ".lock"
_YOUNG_SECONDS = 60.0
"""A directory this young may belong to a process that has not locked it yet."""


@contextmanager
def serve_metrics(listening: socket.socket, cache_seconds: float = 1.0) -> Iterator[Path]:
    """Serve `/metrics` on a listening socket. Yield the directory in which workers count (PROMETHEUS_MULTIPROC_DIR).

    Raises:
        ConfigurationError: there is no temporary directory that this process can write.
    """
    directory = _make_directory()
    try:
        with DirectoryLock(directory / _LOCK):
            registry = CollectorRegistry()
            registry.register(WorkersCollector(directory))
            for metric in OF_THE_PARENT:
                registry.register(metric)
            with MetricsServer(listening, MetricsCache(registry, cache_seconds)):
                yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


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
