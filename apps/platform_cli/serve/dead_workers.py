"""The counts of workers that have ended, added up in one file for each kind of metric.

So a gateway whose workers die every minute has as many files after a year as at its start, and no counter falls.
"""

import contextlib
import struct
from collections.abc import Mapping
from pathlib import Path
from threading import Lock

from prometheus_client.mmap_dict import MmapedDict

from platform_app.observability.exemplars import FILE_NAME
from platform_app.observability.logging import get_logger

METRIC_FILES_LOCK = Lock()
"""Taken to change the files and to read them for a scrape, which would otherwise miss or double what moves."""
_ADDED_UP = ("counter", "histogram", "summary")
_DEAD = "dead"
"""Stands in a file's name where the process id is."""

_log = get_logger("serve")


def forget_worker(pid: int, directory: Path) -> None:
    """Keep the counters of a process that has ended, and remove its files and gauges. Never raises."""
    with METRIC_FILES_LOCK:
        for gauges in directory.glob(f"gauge_*_{pid}.db"):
            _remove(gauges)
        _remove(directory / f"{FILE_NAME}.{pid}")
        for kind in _ADDED_UP:
            _keep_counters(pid, kind, directory)


def _keep_counters(pid: int, kind: str, directory: Path) -> None:
    source, total = directory / f"{kind}_{pid}.db", directory / f"{kind}_{_DEAD}.db"
    if not source.exists():
        return
    try:
        values = _read(total)
        for key, value in _read(source).items():
            values[key] = values.get(key, 0.0) + value
    except (OSError, ValueError, struct.error, RuntimeError) as error:
        # A process that was killed can leave a damaged file, which would make every scrape fail.
        _log.warning("worker_metrics_lost", pid=pid, kind=kind, error=type(error).__name__)
        _remove(source)
        return
    # Without space the file of the dead process stays, and is read as before.
    with contextlib.suppress(OSError):
        _replace(total, values)
        _remove(source)


def _read(file: Path) -> dict[str, float]:
    if not file.exists() or not file.stat().st_size:  # a process can end between the making of its file and its head
        return {}
    return {key: value for key, value, *_ in MmapedDict.read_all_values_from_file(file)}  # type: ignore[no-untyped-call]  # no types there


def _replace(file: Path, values: Mapping[str, float]) -> None:
    """Write a file as prometheus_client's MmapedDict does. Not through that class: if the disk is full, writing to a
    mapped file ends the process."""
    entries = b"".join(_entry(key.encode(), value) for key, value in values.items())
    partial = file.with_suffix(".partial")
    try:
        partial.write_bytes(struct.pack("i4x", 8 + len(entries)) + entries)
        partial.replace(file)
    except OSError:
        _remove(partial)
        raise


def _entry(key: bytes, value: float) -> bytes:
    padded = key + b" " * (8 - (len(key) + 4) % 8)
    return struct.pack(f"i{len(padded)}sdd", len(key), padded, value, 0.0)


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink()
