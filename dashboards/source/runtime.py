"""Runtime: workers, event loop, memory, pools, ledger, secrets, configuration, logs and traces."""

from dashboards.source.frame import Page, Row
from dashboards.source.panels import Limits, Query, Text, graph, states
from dashboards.source.queries import gauge, increase, quantile, rate, series

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
                Query(gauge("sum", "platform_workers_ready", by=_INSTANCE), "ready {{instance}}"),
                Query(gauge("sum", "platform_workers_configured", by=_INSTANCE), "configured {{instance}}"),
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
                Query(increase("platform_worker_restarts_total", by=(*_INSTANCE, "reason")), "{{instance}} {{reason}}"),
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
                Query(quantile(0.5, lag, by=_INSTANCE), "p50 {{instance}}"),
                Query(quantile(0.99, lag, by=_INSTANCE), "p99 {{instance}}"),
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
                Query(gauge("max", "platform_worker_resident_bytes", by=_INSTANCE), "{{instance}}"),
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
                Query(gauge("sum", "platform_event_loop_tasks", by=_INSTANCE), "{{instance}}"),
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
                Query(gauge("sum", "platform_database_pool_connections", by=("state",)), "{{state}}"),
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
                Query(gauge("min", "platform_schema_at_head", by=_INSTANCE), "{{instance}}"),
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
                Query(rate("platform_secret_lookups_total", by=("store", "outcome")), "{{store}} {{outcome}}"),
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
                Query(gauge("max", "platform_secrets_stale", by=_INSTANCE), "{{instance}}"),
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
                Query(gauge("max", "platform_secret_age_seconds", by=_INSTANCE), "{{instance}}"),
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
                Query(rate("platform_ledger_appended_total"), "appended"),
                Query(rate("platform_ledger_shipped_total", by=("table",)), "shipped {{table}}"),
                Query(rate("platform_ledger_duplicates_total", by=("table",)), "again {{table}}"),
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
                Query(gauge("max", "platform_ledger_spool_bytes", by=_INSTANCE), "{{instance}}"),
                Query(gauge("max", "platform_ledger_spool_max_bytes", by=_INSTANCE), "bound {{instance}}"),
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
                Query(gauge("max", "platform_ledger_oldest_unshipped_seconds", by=_INSTANCE), "{{instance}}"),
                limits=Limits(60, 300),
                width=8,
            ),
            graph(
                "Shipping a segment, p99",
                Text("The time of one COPY into PostgreSQL.", "below 0.5 s.", ("LedgerBehind",)),
                "s",
                Query(quantile(0.99, "platform_ledger_batch_duration_seconds"), "p99"),
                log_scale=True,
                width=8,
            ),
            graph(
                "Failed attempts to ship",
                Text("Attempts that failed; each is repeated.", "0.", ("LedgerBehind",)),
                "cps",
                Query(rate("platform_ledger_writer_failures_total", by=_INSTANCE), "{{instance}}"),
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
                Query(rate("platform_ledger_counted_total", by=("addresses",)), "{{addresses}}"),
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
                Query(increase("platform_ledger_dropped_total", by=("reason",)), "dropped {{reason}}"),
                Query(increase("platform_ledger_refused_total"), "requests refused"),
                Query(increase("platform_ledger_spool_failures_total"), "writes refused"),
                Query(increase("platform_ledger_pending_failures_total"), "intents and counts refused"),
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
                Query(increase("platform_ledger_bad_lines_total", by=("reason",)), "set aside {{reason}}"),
                Query(increase("platform_ledger_interrupted_total"), "calls interrupted"),
                Query(increase("platform_ledger_orphan_charges_total", by=("outcome",)), "charges {{outcome}}"),
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
                Query(increase("platform_config_reloads_total", by=("outcome",)), "{{outcome}}"),
            ),
            states(
                "Config file refused",
                Text(
                    "1 while a process refuses the changed file and keeps the previous configuration.",
                    "0.",
                    ("ConfigRefused",),
                ),
                "none",
                Query(gauge("max", "platform_config_refused", by=_INSTANCE), "{{instance}}"),
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
                Query(increase("platform_log_lines_dropped_total", by=_INSTANCE), "dropped {{instance}}"),
                Query(increase("platform_log_lines_suppressed_total", by=_INSTANCE), "suppressed {{instance}}"),
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
                Query(rate("platform_traces_kept_total", by=("reason",)), "kept {{reason}}"),
                Query(rate("platform_traces_dropped_total", by=("reason",)), "dropped {{reason}}"),
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
                Query(rate("platform_trace_spans_total", by=("outcome",)), "{{outcome}}"),
                width=8,
            ),
        ],
    )
