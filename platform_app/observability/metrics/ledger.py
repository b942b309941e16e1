"""The ledger and its spool."""

from platform_app.observability.metrics.kinds import Counter, Gauge, Histogram

LEDGER_APPENDED = Counter("platform_ledger_appended", "Events written to this machine's spool.")

LEDGER_SHIPPED = Counter("platform_ledger_shipped", "Events committed to PostgreSQL.", ["table"])

LEDGER_DUPLICATES = Counter(
    "platform_ledger_duplicates", "Events shipped again and found there, as after a crash.", ["table"]
)

LEDGER_DROPPED = Counter(
    "platform_ledger_dropped",
    "Events lost by a declared policy: spool_full (drop_oldest), spool_failing (no memory left for what the disk "
    "refuses), expired (older than the retention when they could be shipped).",
    ["reason"],
)

LEDGER_BAD_LINES = Counter(
    "platform_ledger_bad_lines",
    "Lines set aside in a .bad file: undecodable, refused (by PostgreSQL), torn (their writer died in them).",
    ["reason"],
)

LEDGER_REFUSED = Counter(
    "platform_ledger_refused", "Requests refused because they could not be recorded; they are not in the ledger."
)

LEDGER_SPOOL_FAILURES = Counter("platform_ledger_spool_failures", "Writes to the spool that the disk refused.")

LEDGER_SPOOL_BYTES = Gauge(
    "platform_ledger_spool_bytes",
    "Bytes in the spool directory that are not shipped yet, of all workers of this machine.",
    multiprocess_mode="livemax",
)

LEDGER_SPOOL_MAX_BYTES = Gauge(
    "platform_ledger_spool_max_bytes",
    "PLATFORM_SPOOL_MAX_BYTES: beyond it, requests are refused or the oldest records are dropped.",
    multiprocess_mode="livemax",
)

LEDGER_OLDEST_SECONDS = Gauge(
    "platform_ledger_oldest_unshipped_seconds",
    "Age of the oldest segment in the spool directory.",
    multiprocess_mode="livemax",
)

LEDGER_BATCH_SECONDS = Histogram(
    "platform_ledger_batch_duration_seconds",
    "Shipping one segment to PostgreSQL.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)

LEDGER_COUNTED = Counter(
    "platform_ledger_counted",
    "Requests without a key that are recorded only as a count: of one address (own), or of all addresses beyond "
    "the bound (other).",
    ["addresses"],
)

LEDGER_INTERRUPTED = Counter(
    "platform_ledger_interrupted",
    "Provider calls whose process died before their end; they are recorded with estimates.",
)

LEDGER_ORPHAN_CHARGES = Counter(
    "platform_ledger_orphan_charges",
    "Reservations of interrupted calls: charged, repeated (already charged), expired (Redis refused it for six days), "
    "invalid.",
    ["outcome"],
)

LEDGER_PENDING_FAILURES = Counter(
    "platform_ledger_pending_failures",
    "Intents and counts that the disk refused: the end of the process would lose them.",
)

LEDGER_WRITER_FAILURES = Counter("platform_ledger_writer_failures", "Tries to ship that failed.")
