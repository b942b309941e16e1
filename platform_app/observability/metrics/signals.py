"""Traces and log lines."""

from platform_app.observability.metrics.kinds import Counter

TRACES_KEPT = Counter("platform_traces_kept", "Requests whose trace is exported: sampled, failed, slow.", ["reason"])

TRACES_DROPPED = Counter(
    "platform_traces_dropped",
    "Traces that were not exported: pipe_full or no_exporter (the exporter's process is slow or gone), too_large, "
    "invalid, damaged (a line of a killed worker).",
    ["reason"],
)

LOG_LINES_DROPPED = Counter("platform_log_lines_dropped", "Log lines lost because the reader of stdout was too slow.")

TRACE_SPANS = Counter(
    "platform_trace_spans",
    "Spans in the exporter's process: exported, failed (the collector refused them or is not reachable), dropped (its "
    "queue is full).",
    ["outcome"],
)
LOG_LINES_SUPPRESSED = Counter(
    "platform_log_lines_suppressed", "Log lines that the flood guard counted instead of writing them."
)
