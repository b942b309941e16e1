"""Runtime: workers, event loop, memory, pools, ledger, secrets, configuration, logs and traces."""

from dashboards.source.frame import Page, Row
from dashboards.source.lines import gauges, increases, quantiles, rates
from dashboards.source.panels import Limits, Query, Text, graph, states
from dashboards.source.queries import gauge, series

_INSTANCE = ("instance",)


def page() -> Page:
    """Return the dashboard."""
    return Page(
        uid="flowbiz-runtime",
        title="FlowBiz: Runtime",
        description="Workers, event loop, memory, pools, ledger, secrets, configuration, logs. docs/observability.md",
        rows=[_workers(), _stores(), _ledger(), _losses(), _configuration(), _signals()],
    )


def _workers() -> Row:
    lag = "platform_event_loop_lag_seconds"
    without = f"{series('up')} == 1 unless on (job, instance) {series('platform_build_info')}"
    return Row(
        "Workers",
        [
            graph(
                "Workers",
                Text(
                    "Workers that run, and how many the parent keeps running.",
                    "both are equal.",
                    ("GatewayWithoutWorkers", "GatewayWorkersRestarting"),
                ),
                "short",
                gauges("sum", "platform_workers_ready", by=_INSTANCE, prefix="ready"),
                gauges("sum", "platform_workers_configured", by=_INSTANCE, prefix="configured"),
                width=8,
            ),
            graph(
                "Workers replaced",
                Text(
                    "Workers that the parent replaced: died, hung (no heartbeat), slow_start (never ready).",
                    "0.",
                    ("GatewayWorkersRestarting",),
                ),
                "short",
                increases("platform_worker_restarts_total", by=(*_INSTANCE, "reason")),
                width=8,
            ),
            states(
                "Scrapes that found no worker",
                Text(
                    "1 while the parent serves metrics and no worker is alive.",
                    "no data.",
                    ("GatewayWithoutWorkers",),
                ),
                "none",
                Query(without, "{{instance}}"),
                limits=Limits(1, 1),
                width=8,
            ),
            graph(
                "Event loop lag",
                Text(
                    "How late a timer of a worker's event loop runs: code that blocks, or a machine without free CPU.",
                    "p99 below 25 ms.",
                    ("EventLoopLagHigh",),
                ),
                "s",
                *quantiles(lag, by=_INSTANCE),
                limits=Limits(0.025, 0.25),
                log_scale=True,
                width=6,
            ),
            graph(
                "Memory of the largest worker",
                Text(
                    "Resident bytes of the worker that has most.",
                    "grows for some minutes after the start and then stays.",
                    ("WorkerMemoryGrowing",),
                ),
                "bytes",
                gauges("max", "platform_worker_resident_bytes", by=_INSTANCE),
                width=6,
            ),
            graph(
                "Tasks",
                Text(
                    "Tasks of the workers' event loops that have not ended.",
                    "follows the requests in flight, and falls back when traffic falls.",
                    ("WorkerMemoryGrowing",),
                ),
                "short",
                gauges("sum", "platform_event_loop_tasks", by=_INSTANCE),
                width=6,
            ),
            graph(
                "Versions",
                Text(
                    "Instances by version and build.",
                    "one version, except during a deployment.",
                ),
                "short",
                Query(f"count by (version, build_sha) ({series('platform_build_info')})", "{{version}} {{build_sha}}"),
                stacked=True,
                width=6,
            ),
        ],
    )


def _stores() -> Row:
    return Row(
        "Database and secrets",
        [
            graph(
                "Connections to PostgreSQL",
                Text(
                    "Connections in the pools of the workers.",
                    "in use is far below the pool's size, since no session outlives its statement.",
                    ("AuthUnavailable", "LedgerBehind"),
                ),
                "short",
                gauges("sum", "platform_database_pool_connections", by=("state",)),
                width=8,
            ),
            states(
                "Schema at head",
                Text(
                    "1 while the database has the schema that this version expects.",
                    "1. During a deployment: run `flowbiz-platform migrate` first.",
                    ("SchemaNotAtHead",),
                ),
                "none",
                gauges("min", "platform_schema_at_head", by=_INSTANCE),
                limits=Limits(1, 1),
                width=8,
            ),
            graph(
                "Look-ups in the secret store",
                Text(
                    "Look-ups in the store, without those served from memory.",
                    "found, a few in a minute.",
                    ("SecretsStale",),
                ),
                "cps",
                rates("platform_secret_lookups_total", by=("store", "outcome")),
                width=8,
            ),
            graph(
                "Secrets that cannot be refreshed",
                Text(
                    "Secrets whose last look-up failed; the last values are used for a limited time.",
                    "0.",
                    ("SecretsStale",),
                ),
                "short",
                gauges("max", "platform_secrets_stale", by=_INSTANCE),
                limits=Limits(1, 1),
                width=8,
            ),
            graph(
                "Age of the oldest secret",
                Text(
                    "Seconds since the look-up of the oldest value that is served. At twice "
                    "PLATFORM_SECRET_TTL_SECONDS the value is no longer used.",
                    "below PLATFORM_SECRET_TTL_SECONDS.",
                    ("SecretsOld", "SecretsStale"),
                ),
                "s",
                gauges("max", "platform_secret_age_seconds", by=_INSTANCE),
                width=8,
            ),
            graph(
                "Certificates: time left",
                Text(
                    "Time until a certificate file of the configuration expires.",
                    "more than 30 days.",
                    ("CertificateExpiring",),
                ),
                "s",
                Query(gauge("min", "platform_certificate_expiry_seconds", by=("file",)) + " - time()", "{{file}}"),
                limits=Limits(30 * 86400, 7 * 86400),
                width=8,
            ),
        ],
    )


def _ledger() -> Row:
    return Row(
        "Ledger",
        [
            graph(
                "Records written and shipped",
                Text(
                    "Events written to the spool and committed to PostgreSQL. again: shipped before, as after a crash.",
                    "shipped follows appended.",
                    ("LedgerBehind",),
                ),
                "cps",
                rates("platform_ledger_appended_total", prefix="appended"),
                rates("platform_ledger_shipped_total", by=("table",), prefix="shipped"),
                rates("platform_ledger_duplicates_total", by=("table",), prefix="again"),
                width=8,
            ),
            graph(
                "Spool",
                Text(
                    "Bytes that wait for PostgreSQL, and their bound.",
                    "a few MB. At PLATFORM_SPOOL_MAX_BYTES requests are refused or the oldest records are dropped.",
                    ("SpoolNearBound", "LedgerBehind"),
                ),
                "bytes",
                gauges("max", "platform_ledger_spool_bytes", by=_INSTANCE),
                gauges("max", "platform_ledger_spool_max_bytes", by=_INSTANCE, prefix="bound"),
                width=8,
            ),
            graph(
                "Oldest record in the spool",
                Text(
                    "The age of the oldest segment; it grows while PostgreSQL is down.",
                    "below 10 s.",
                    ("LedgerBehind",),
                ),
                "s",
                gauges("max", "platform_ledger_oldest_unshipped_seconds", by=_INSTANCE),
                limits=Limits(60, 300),
                width=8,
            ),
            graph(
                "Shipping a segment, p99",
                Text("The time of one COPY into PostgreSQL.", "below 0.5 s.", ("LedgerBehind",)),
                "s",
                *quantiles("platform_ledger_batch_duration_seconds", of=(0.99,)),
                log_scale=True,
                width=8,
            ),
            graph(
                "Failed attempts to ship",
                Text("Attempts that failed; each is repeated.", "0.", ("LedgerBehind",)),
                "cps",
                rates("platform_ledger_writer_failures_total", by=_INSTANCE),
                width=8,
            ),
            graph(
                "Requests without a key, recorded as a count",
                Text(
                    "Refused requests of one address (own) or of all addresses beyond the bound (other).",
                    "0, apart from scanners.",
                    ("RefusalsFlood",),
                ),
                "reqps",
                rates("platform_ledger_counted_total", by=("addresses",)),
                width=8,
            ),
        ],
    )


def _losses() -> Row:
    return Row(
        "Ledger: losses",
        [
            graph(
                "Lost or refused",
                Text(
                    "Events that were dropped, requests that were refused because they could not be recorded, and "
                    "writes that the disk refused.",
                    "0.",
                    ("LedgerLosing",),
                ),
                "short",
                increases("platform_ledger_dropped_total", by=("reason",), prefix="dropped"),
                increases("platform_ledger_refused_total", prefix="requests refused"),
                increases("platform_ledger_spool_failures_total", prefix="writes refused"),
                increases("platform_ledger_pending_failures_total", prefix="intents and counts refused"),
            ),
            graph(
                "Set aside or interrupted",
                Text(
                    "Lines set aside in .bad files, calls whose process died before their end, and what became of "
                    "their reservations.",
                    "0.",
                    ("LedgerLinesSetAside", "LedgerCallsInterrupted"),
                ),
                "short",
                increases("platform_ledger_bad_lines_total", by=("reason",), prefix="set aside"),
                increases("platform_ledger_interrupted_total", prefix="calls interrupted"),
                increases("platform_ledger_orphan_charges_total", by=("outcome",), prefix="charges"),
            ),
        ],
    )


def _configuration() -> Row:
    return Row(
        "Configuration",
        [
            graph(
                "Changes of the config file",
                Text(
                    "Changes that were applied or refused; the log line `config_reloaded` says what changed.",
                    "as many as you made.",
                    ("ConfigRefused",),
                ),
                "short",
                increases("platform_config_reloads_total", by=("outcome",)),
            ),
            states(
                "Config file refused",
                Text(
                    "1 while a process refuses the changed file and keeps the previous configuration.",
                    "0.",
                    ("ConfigRefused",),
                ),
                "none",
                gauges("max", "platform_config_refused", by=_INSTANCE),
                limits=Limits(1, 1),
            ),
        ],
    )


def _signals() -> Row:
    return Row(
        "Logs and traces",
        [
            graph(
                "Log lines not written",
                Text(
                    "dropped: the reader of stdout is too slow. suppressed: repeated lines that were counted instead.",
                    "0.",
                    ("LogLinesDropped",),
                ),
                "short",
                increases("platform_log_lines_dropped_total", by=_INSTANCE, prefix="dropped"),
                increases("platform_log_lines_suppressed_total", by=_INSTANCE, prefix="suppressed"),
                width=8,
            ),
            graph(
                "Traces",
                Text(
                    "Requests whose trace is kept (sampled, failed, slow), and traces that were dropped.",
                    "none dropped.",
                    ("TraceExportFailing",),
                ),
                "reqps",
                rates("platform_traces_kept_total", by=("reason",), prefix="kept"),
                rates("platform_traces_dropped_total", by=("reason",), prefix="dropped"),
                width=8,
            ),
            graph(
                "Spans",
                Text(
                    "Spans that the exporter sent to the collector, could not send, or dropped.",
                    "all exported. No data without a collector (OTEL_EXPORTER_OTLP_ENDPOINT).",
                    ("TraceExportFailing",),
                ),
                "cps",
                rates("platform_trace_spans_total", by=("outcome",)),
                width=8,
            ),
        ],
    )
