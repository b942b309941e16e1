"""Count what becomes of spans: exported, failed (the collector refused, rejected or did not respond), dropped (no
place)."""

import logging
import time
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from apps.trace_exporter.responses import CollectorResponse
from apps.trace_exporter.texts import shown
from platform_app.observability.logging import get_logger
from platform_app.observability.metrics import TRACE_SPANS

EXPORTED = "exported"
FAILED = "failed"
DROPPED = "dropped"
REPORT_SECONDS = 60.0
"""At most one log line about failing exports in this time."""

_log = get_logger("trace_exporter")


class CountedExporter(SpanExporter):
    """Wraps the SDK's exporter. The batch processor calls it from its thread, one batch at a time."""

    def __init__(
        self, exporter: SpanExporter, response: CollectorResponse, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._exporter = exporter
        self._response = response
        self._clock = clock
        self._taken = self._done = 0
        self._failed_since: float | None = None
        self._reported_at = float("-inf")
        self._failed_spans = 0
        self.reason = FirstMessage()
        for outcome in (EXPORTED, FAILED, DROPPED):
            TRACE_SPANS.labels(outcome)  # shown from the start, as 0

    @property
    def taken(self) -> int:
        """Return the number of spans that have left the queue."""
        return self._taken

    @property
    def done(self) -> int:
        """Return the number of spans that were exported or failed."""
        return self._done

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export one batch. An exception of the exporter counts as a failure."""
        self._taken += len(spans)
        self.reason.text = ""
        self._response.clear()
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001 - whatever the exporter raises, the batch is lost and counted
            self.reason.text = type(error).__name__
            result = SpanExportResult.FAILURE
        self._done += len(spans)
        lost = len(spans)
        if result is SpanExportResult.SUCCESS:
            lost = self._response.lost(len(spans))
            self.reason.text = self._response.reason
        TRACE_SPANS.labels(EXPORTED).inc(len(spans) - lost)
        TRACE_SPANS.labels(FAILED).inc(lost)
        if lost:
            self._report_failure(lost)
        else:
            self._report_recovery()
        return result

    def shutdown(self) -> None:
        """Close the connection to the collector."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Return the exporter's result; it buffers nothing."""
        return self._exporter.force_flush(timeout_millis)

    def _report_failure(self, spans: int) -> None:
        now = self._clock()
        if self._failed_since is None:
            self._failed_since = now
        self._failed_spans += spans
        if now - self._reported_at < REPORT_SECONDS:
            return
        self._reported_at = now
        _log.warning(
            "trace_export_failed",
            spans=self._failed_spans,
            failing_seconds=round(now - self._failed_since),
            reason=shown(self.reason.text),
        )
        self._failed_spans = 0

    def _report_recovery(self) -> None:
        if self._failed_since is not None:
            _log.info("trace_export_recovered", failing_seconds=round(self._clock() - self._failed_since))
            self._failed_since, self._reported_at, self._failed_spans = None, float("-inf"), 0


class FirstMessage(logging.Handler):
    """Keeps the first message of OpenTelemetry's loggers about a batch: they alone have the reason of a failed export,
    and later messages about the same batch only say that retries failed too."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message if it is the first one."""
        self.text = self.text or record.getMessage()
