"""What one phase showed: latencies, counters, and memory."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

MIB = 1024 * 1024


@dataclass(frozen=True)
class Counts:
    """The gateway's counters of traces."""

    kept: float
    """Traces that a worker decided to export."""
    dropped_traces: float
    """Traces that a worker did not hand to the exporter: the pipe was full."""
    spans: Mapping[str, float]
    """Spans in the exporter by outcome: exported, failed, dropped."""

    @classmethod
    def read(cls, metrics: str) -> "Counts":
        """Read them from the text of the metrics port."""
        kept = dropped = 0.0
        spans = {"exported": 0.0, "failed": 0.0, "dropped": 0.0}
        for family in text_string_to_metric_families(metrics):
            for sample in family.samples:
                if sample.name == "platform_traces_kept_total":
                    kept += sample.value
                elif sample.name == "platform_traces_dropped_total":
                    dropped += sample.value
                elif sample.name == "platform_trace_spans_total":
                    spans[sample.labels["outcome"]] += sample.value
        return cls(kept, dropped, spans)

    def since(self, earlier: "Counts") -> "Counts":
        """Return what was counted after `earlier`."""
        spans = {outcome: value - earlier.spans[outcome] for outcome, value in self.spans.items()}
        return Counts(self.kept - earlier.kept, self.dropped_traces - earlier.dropped_traces, spans)

    def settled_spans(self) -> float:
        """Return the spans whose outcome is known."""
        return sum(self.spans.values())


@dataclass(frozen=True)
class Phase:
    """One phase: a fault of the collector or of the exporter, or none."""

    name: str
    statuses: frozenset[int]
    seconds: tuple[float, ...]
    """The latency of each request."""
    during: Counts
    """Counted from the first to the last request."""
    exporter_bytes: int
    worker_bytes: int

    @property
    def median(self) -> float:
        """The median latency in seconds."""
        return statistics.median(self.seconds)

    def quantile(self, percent: int) -> float:
        """Return a percentile of the latencies in seconds."""
        return statistics.quantiles(self.seconds, n=100, method="inclusive")[percent - 1]


def table(phases: Iterable[Phase]) -> str:
    """Return one line for each phase."""
    heads = ("Collector", "Requests", "p50", "p95", "p99", "Spans exported", "Spans failed", "Spans dropped",
             "Traces dropped", "Exporter", "Worker")  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for phase in phases:
        cells = (
            phase.name,
            str(len(phase.seconds)),
            *(f"{1000 * phase.quantile(percent):.0f} ms" for percent in (50, 95, 99)),
            *(f"{phase.during.spans[outcome]:.0f}" for outcome in ("exported", "failed", "dropped")),
            f"{phase.during.dropped_traces:.0f}",
            *(f"{size / MIB:.0f} MiB" for size in (phase.exporter_bytes, phase.worker_bytes)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
