"""What is measured of a gateway, and the slope of each measure by least squares."""

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.gateway.http import metric, workers
from tests.support.gateway.process import Gateway

_PAGE = 4096
_SECONDS_PER_HOUR = 3600.0
ALLOWED_PER_HOUR = {
    "parent_mib": 1.0, "worker_mib": 1.0, "descriptors": 1.0, "tasks": 1.0, "series": 1.0, "metric_files": 0.5,
    "spool_files": 1.0, "connections": 1.0,
}  # fmt: skip
"""The slope that each measure may have over half an hour or more. A shorter run shows noise of the allocator. Threads
are bounded by count: a thread pool starts its threads when it needs them (`EXECUTOR_THREADS`)."""
EXECUTOR_THREADS = min(32, (os.cpu_count() or 1) + 4)
"""The most threads that asyncio's thread pool of one process starts, at any time of its life."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment."""

    at: float
    values: dict[str, float]
    series: frozenset[str] = frozenset()
    """The names and labels of all series."""


def take(gateway: Gateway, directory: Path, spool: Path) -> Sample:
    """Measure the parent and all workers."""
    assert gateway.child is not None
    pids = workers(gateway)
    text = gateway.metrics()
    series = frozenset(re.findall(r"(?m)^([a-z]\S*) ", text))
    values = {
        "parent_mib": _resident_mib(gateway.child.pid),
        "worker_mib": sum(map(_resident_mib, pids)) / len(pids),
        "descriptors": float(sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in [gateway.child.pid, *pids])),
        "threads": float(sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in [gateway.child.pid, *pids])),
        "tasks": metric(text, "platform_event_loop_tasks"),
        "workers": float(len(pids)),
        "series": float(len(series)),
        "metric_files": float(len(list(directory.glob("flowbiz-platform-metrics-*/*")))),
        "spool_files": float(len(list(spool.iterdir()))),
        "connections": metric(text, "platform_database_pool_connections")
        + metric(text, "platform_provider_pool_connections"),
    }
    return Sample(time.monotonic(), values, series)


@dataclass(frozen=True, slots=True)
class Slope:
    """The growth of a measure in an hour, and the standard error of that figure."""

    per_hour: float
    error: float

    def exceeds(self, allowed: float) -> bool:
        """Return whether the growth is larger than allowed, and not by chance: two standard errors are noise."""
        return self.per_hour - 2 * self.error > allowed


def slopes(samples: Sequence[Sample]) -> dict[str, Slope]:
    """Return the growth of each measure in an hour."""
    return {name: _slope([(each.at, each.values[name]) for each in samples]) for name in samples[0].values}


def _slope(points: Sequence[tuple[float, float]]) -> Slope:
    mean_x, mean_y = (sum(column) / len(points) for column in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread or len(points) < 3:
        return Slope(0.0, 0.0)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    residuals = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points)
    error = (residuals / (len(points) - 2) / spread) ** 0.5
    return Slope(_SECONDS_PER_HOUR * slope, _SECONDS_PER_HOUR * error)


def _resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 1024 / 1024
