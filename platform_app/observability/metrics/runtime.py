"""The worker processes, their pools and their configuration."""

from platform_app.observability.metrics.kinds import FINE_BUCKETS, Counter, Gauge, Histogram

WORKER_RESTARTS = Counter(
    "platform_worker_restarts_total",
    "Workers that the parent process replaced; reason: died, hung (no heartbeat), slow_start (never ready).",
    ["reason"],
)

CONFIG_RELOADS = Counter("platform_config_reloads", "Changes of the config file: applied, refused.", ["outcome"])

CONFIG_REFUSED = Gauge(
    "platform_config_refused",
    "1 while this process refuses the changed config file and keeps the previous configuration.",
    multiprocess_mode="livemax",
)

BUILD_INFO = Gauge(
    "platform_build_info", "Always 1; the version is in the labels.", ["version", "build_sha"],
    multiprocess_mode="livemax",
)  # fmt: skip

WORKERS_READY = Gauge("platform_workers_ready", "Workers that have sent a heartbeat, run, and do not hang.")
WORKERS_CONFIGURED = Gauge("platform_workers_configured", "Workers that the parent keeps running: PLATFORM_WORKERS.")
OF_THE_PARENT = (WORKER_RESTARTS, WORKERS_READY, WORKERS_CONFIGURED)
"""The parent counts these itself. The workers have them too, and theirs are not shown."""

WORKER_RESIDENT_BYTES = Gauge(
    "platform_worker_resident_bytes", "Resident memory of the largest worker.", multiprocess_mode="livemax"
)
EVENT_LOOP_TASKS = Gauge(
    "platform_event_loop_tasks", "Tasks of the workers' event loops that have not ended.", multiprocess_mode="livesum"
)
EVENT_LOOP_LAG_SECONDS = Histogram(
    "platform_event_loop_lag_seconds",
    "How late a timer of the worker's event loop runs, observed ten times a second.",
    buckets=FINE_BUCKETS,
)
DATABASE_POOL_CONNECTIONS = Gauge(
    "platform_database_pool_connections",
    "Connections to PostgreSQL in the workers' pools, by state: in_use, idle.",
    ["state"],
    multiprocess_mode="livesum",
)
SCHEMA_AT_HEAD = Gauge(
    "platform_schema_at_head",
    "1 while the database has the schema that this version expects, or a newer one; 0: run `flowbiz-platform migrate`.",
    multiprocess_mode="livemin",
)
CERTIFICATE_EXPIRY_SECONDS = Gauge(
    "platform_certificate_expiry_seconds",
    "When a certificate file expires, in seconds since 1970: of a client's chain the first, of several CAs the last.",
    ["file"],
    multiprocess_mode="livemin",
)
