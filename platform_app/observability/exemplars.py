"""Exemplars: for each bucket of a latency histogram, the latest request whose trace was exported.

The exporter's process writes them to one file in the metrics directory. The parent process reads that file when it
renders the metrics in the OpenMetrics form (docs/adr/0033).
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

FILE_NAME = "exemplars.json"
"""In the directory of PROMETHEUS_MULTIPROC_DIR, beside the files of the workers."""
_MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One observation of one bucket, with the trace that explains it."""

    metric: str
    """The histogram's name without `_bucket`, as platform_overhead_seconds."""
    labels: Mapping[str, str]
    """Every label of the histogram, without `le`."""
    le: str
    """The bucket's upper bound as the text format has it: 0.25, 1.0, +Inf."""
    value: float
    trace_id: str
    timestamp: float
    """Seconds since 1970."""


def write_exemplars(directory: Path, exemplars: Iterable[Exemplar]) -> None:
    """Replace the file in one step: a reader finds the old exemplars or the new ones. Raises OSError."""
    temporary = directory / f"{FILE_NAME}.{os.getpid()}"
    temporary.write_bytes(orjson.dumps([asdict(exemplar) for exemplar in exemplars]))
    temporary.replace(directory / FILE_NAME)


def read_exemplars(directory: Path) -> list[Exemplar]:
    """Return the exemplars of the file; none if there is no file, or it cannot be read as one."""
    try:
        with (directory / FILE_NAME).open("rb") as file:
            return [Exemplar(**fields) for fields in orjson.loads(file.read(_MAX_BYTES))]
    except (OSError, ValueError, TypeError):
        return []
