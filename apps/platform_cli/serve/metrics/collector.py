"""Read the files in which the workers count, and add exemplars to the histograms."""

import os
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

from apps.platform_cli.serve.dead_workers import METRIC_FILES_LOCK
from platform_app.observability.exemplars import read_exemplars
from platform_app.observability.metrics import OF_THE_PARENT

_TRIES = 50
_PAUSE_SECONDS = 0.002
_ExemplarKey = tuple[str, str, frozenset[tuple[str, str]]]
_PARENTS = frozenset(metric._name for metric in OF_THE_PARENT)  # the name has no public accessor


class WorkersCollector(Collector):
    """Collects the metrics of all workers: counters and histograms of dead ones too, gauges of living ones only."""

    def __init__(self, directory: Callable[[], Path]) -> None:
        """`directory` returns where the files are, or raises FileNotFoundError."""
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        """Return each metric once. Exemplars are shown in the OpenMetrics form only."""
        exemplars = self._exemplars()
        for metric in self._read():
            if metric.name in _PARENTS:
                continue  # the workers have the parent's metrics too, at 0
            if metric.type == "histogram" and exemplars:
                metric.samples = [_with_exemplar(metric.name, sample, exemplars) for sample in metric.samples]
            yield metric

    def _read(self) -> list[Metric]:
        """Read all files. Processes start and end meanwhile, so a file can be gone, or be made and have no head yet."""
        for _ in range(_TRIES - 1):
            with suppress(FileNotFoundError, struct.error), METRIC_FILES_LOCK:
                return self._merge()
            time.sleep(_PAUSE_SECONDS)
        with METRIC_FILES_LOCK:
            return self._merge()

    def _merge(self) -> list[Metric]:
        files = [
            each.path for each in os.scandir(self._directory()) if each.name.endswith(".db") and _has_content(each)
        ]
        return list(MultiProcessCollector.merge(files))  # type: ignore[no-untyped-call]  # no types there

    def _exemplars(self) -> Mapping[_ExemplarKey, Exemplar]:
        return {
            (each.metric, each.le, frozenset(each.labels.items())): Exemplar(
                {"trace_id": each.trace_id}, each.value, each.timestamp
            )
            for each in read_exemplars(self._directory())
        }


def _has_content(file: os.DirEntry[str]) -> bool:
    """Return whether the file exists and is not empty, as it is between its making and its first byte."""
    with suppress(FileNotFoundError):
        return file.stat().st_size > 0
    return False


def _with_exemplar(metric: str, sample: Sample, exemplars: Mapping[_ExemplarKey, Exemplar]) -> Sample:
    le = sample.labels.get("le")
    if le is None:
        return sample
    key = metric, le, frozenset((name, value) for name, value in sample.labels.items() if name != "le")
    return sample._replace(exemplar=exemplars.get(key))
