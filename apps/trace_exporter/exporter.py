"""The loop of the exporter's process: lines from the workers become spans and exemplars."""

import time
from collections.abc import Callable

from apps.trace_exporter.exemplars import LatestExemplars
from apps.trace_exporter.pipeline import Pipeline
from apps.trace_exporter.pipes import PipeReader
from apps.trace_exporter.spans import SpanBuilder
from platform_app.observability.metrics import TRACES_DROPPED
from platform_app.observability.tracing.kept_request import parse_line

FLUSH_SECONDS = 4.0
"""How long the end of the process waits for the collector. The parent kills it a second later."""
DAMAGED = "damaged"
_WAIT_SECONDS = 0.25
_MAX_LAST_READS = 256
"""Reads of the pipes at the end. 256 of 64 KiB empty the pipes of 16 workers."""


class Exporter:
    """Reads until it is stopped, or until no worker and no parent has the other ends of the pipes."""

    def __init__(
        self, reader: PipeReader, builder: SpanBuilder, pipeline: Pipeline, exemplars: LatestExemplars | None = None
    ) -> None:
        self._reader = reader
        self._builder = builder
        self._pipeline = pipeline
        self._exemplars = exemplars

    def run(self, stopped: Callable[[], bool], flush_seconds: float = FLUSH_SECONDS) -> None:
        """Export until `stopped` returns True, then what the pipes still have, within the time for the flush."""
        while self._reader.open and not stopped():
            self._read(_WAIT_SECONDS)
            self._write_exemplars()
        for _ in range(_MAX_LAST_READS):
            if not self._reader.open or not self._read(0):
                break
        self._write_exemplars()
        self._pipeline.close(flush_seconds)

    def _read(self, seconds: float) -> int:
        lines = 0
        for line in self._reader.read(seconds):
            lines += 1
            self._export(line)
        return lines

    def _export(self, line: bytes) -> None:
        try:
            request = parse_line(line)
            spans = self._builder.build(request)
        except (ValueError, TypeError, AttributeError):
            # A killed worker leaves the start of a line, and an older worker's line may lack a field.
            TRACES_DROPPED.labels(DAMAGED).inc()
            return
        if self._pipeline.submit(spans) and self._exemplars is not None:
            self._exemplars.note(request)

    def _write_exemplars(self) -> None:
        if self._exemplars is not None:
            self._exemplars.write(time.monotonic())
