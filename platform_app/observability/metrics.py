"""Every metric of the gateway. Label values come from closed sets: route templates, names from the config file, and the
outcomes written here. Text from a client never becomes a label.

With several workers each process counts in memory-mapped files and the parent aggregates them (prometheus_client's
multiprocess mode). So each gauge declares how it is aggregated.
"""

from functools import lru_cache

from prometheus_client import Counter, Gauge, Histogram, values

from platform_app.observability.mapped_values import mapped_value_class

if getattr(values.ValueClass, "_multiprocess", False):
    values.ValueClass = mapped_value_class()

# The gateway itself adds about a millisecond; providers take seconds.
_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_STORE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 2.5)

HTTP_REQUESTS = Counter(
    "platform_http_requests", "HTTP requests with a response, by route template.", ["method", "route", "status"]
)
HTTP_SECONDS = Histogram(
    "platform_http_request_duration_seconds",
    "From the request's first byte read to the response's last byte written.",
    ["route"],
    buckets=_REQUEST_BUCKETS,
)
HTTP_IN_FLIGHT = Gauge("platform_http_requests_in_flight", "HTTP requests in progress.", multiprocess_mode="livesum")

HTTP_REFUSED = Counter(
    "platform_http_refused",
    "Requests and connections that the server's edge refused or closed, by reason; docs/http describes each.",
    ["reason"],
)
HTTP_CONNECTIONS = Gauge(
    "platform_http_connections", "Client connections that are open now.", multiprocess_mode="livesum"
)

AUTH = Counter(
    "platform_auth",
    "Authentications by outcome: accepted, refused, malformed, missing, stale (database down), unavailable.",
    ["outcome"],
)
AUTH_LOOKUP_SECONDS = Histogram(
    "platform_auth_lookup_duration_seconds", "Key look-ups in PostgreSQL.", buckets=_STORE_BUCKETS
)

AUTH_THROTTLED = Counter("platform_auth_throttled", "Authentications refused because their address failed too often.")
KEY_ANNOUNCEMENTS = Counter(
    "platform_key_announcements", "Key changes announced over Redis pub/sub: sent, failed, received.", ["outcome"]
)
KEY_LISTENER_CONNECTED = Gauge(
    "platform_key_listener_connected",
    "1 while this process receives key changes at once; 0: it notices them when its cache expires.",
    multiprocess_mode="livemin",
)

LIMITER = Counter(
    "platform_limiter",
    "Limiter decisions: allowed, denied, unavailable, closed; mode remembered: denied again without Redis.",
    ["decision", "mode"],
)
LIMITER_DENIALS = Counter(
    "platform_limiter_denials",
    "Requests that a rule denied (mode enforce), or would have denied (mode shadow).",
    ["rule", "mode"],
)
LIMITER_CLOSED = Counter(
    "platform_limiter_closed", "Requests refused because Redis is down and this rule has on_outage: closed.",
    ["rule"],
)  # fmt: skip
BUDGET_SEEDS = Counter(
    "platform_budget_seeds",
    "Calendar counters that are new, as after a restart of Redis, by how their earlier usage was restored: "
    "`told` (read from the ledger), failed (the ledger cannot be read), late (the request stopped waiting).",
    ["outcome"],
)
BUDGET_UNPRICED = Counter(
    "platform_budget_unpriced",
    "Requests that a budget applies to, for a model with a route whose price is not known: refused, warned (they count "
    "nothing), counted (at the rule's price).",
    ["rule", "action"],
)
LIMITER_SETTLEMENTS = Counter(
    "platform_limiter_settlements",
    "Settlements of reservations in Redis at the end of a request: sent, failed, dropped; and renewals that failed.",
    ["outcome"],
)
LIMITER_SECONDS = Histogram("platform_limiter_duration_seconds", "Limiter calls to Redis.", buckets=_STORE_BUCKETS)
LIMITER_DEGRADED = Gauge(
    "platform_limiter_degraded",
    "1 while this process limits by itself because Redis is down.",
    multiprocess_mode="livemax",
)

WORKER_RESTARTS = Counter(
    "platform_worker_restarts_total",
    "Workers that the parent process replaced; reason: died, hung (no heartbeat), slow_start (never ready).",
    ["reason"],
)

IDEMPOTENCY = Counter(
    "platform_idempotency",
    "Requests with an Idempotency-Key. At their start: started, replayed, replay_refused (limit or model), "
    "not_kept (the earlier response was not stored), in_flight, waited (for work whose client had disconnected), "
    "mismatch, refused (no memory for the key). When the client of a started one disconnects: client_left (the work "
    "continues), abandoned (it stops). At the end of a started one: stored, or not stored: too_large, over_quota, "
    "memory_full; released, lost (the lease had expired and another request has the key). At any time: unavailable.",
    ["outcome"],
)

IDEMPOTENCY_DETACHED = Gauge(
    "platform_idempotency_detached",
    "Requests with an Idempotency-Key in progress whose client has disconnected.",
    multiprocess_mode="livesum",
)

MISPLACED_CREDENTIALS = Counter(
    "platform_misplaced_credentials",
    "API keys that clients sent in a field that is stored or sent back; none was accepted there.",
    ["field"],
)
KEY_CHANGES = Counter(
    "platform_key_changes",
    "Changes of API keys over HTTP: ok, or the error code of the refusal.",
    ["action", "outcome"],
)

SECRET_LOOKUPS = Counter(
    "platform_secret_lookups",
    "Look-ups in the secret store, without cache hits: found, missing, unavailable.",
    ["store", "outcome"],
)
SECRETS_STALE = Gauge(
    "platform_secrets_stale",
    "Secrets of this process whose last look-up failed: the last good value is served, or it has expired.",
    multiprocess_mode="livemax",
)
SECRET_AGE_SECONDS = Gauge(
    "platform_secret_age_seconds",
    "Seconds since the look-up of the oldest value that is served.",
    multiprocess_mode="livemax",
)

PROVIDER_REQUESTS = Counter(
    "platform_provider_requests",
    "Provider calls by outcome: ok, client_closed, or the error code that the caller received.",
    ["provider", "model", "outcome"],
)
PROVIDER_SECONDS = Histogram(
    "platform_provider_request_duration_seconds",
    "From sending the provider call to its last byte.",
    ["provider", "model"],
    buckets=_REQUEST_BUCKETS,
)
PROVIDER_FIRST_CHUNK_SECONDS = Histogram(
    "platform_provider_first_chunk_seconds",
    "From sending a streaming provider call to its first chunk.",
    ["provider", "model"],
    buckets=_REQUEST_BUCKETS,
)
STREAM_EARLY_HEADS = Counter(
    "platform_stream_early_heads",
    "Streams whose head was sent before their first event, because that took longer than "
    "PLATFORM_STREAM_KEEP_ALIVE_SECONDS; a failure after that is sent as an event instead of a status.",
)
PROVIDER_CONNECTIONS = Counter(
    "platform_provider_connections",
    "New connections to providers, by the host of the config file: made, failed (refused, unknown name, bad "
    "certificate), timed_out (no response in time, or no free connection).",
    ["host", "outcome"],
)
PROVIDER_TOKENS = Counter(
    "platform_provider_tokens",
    "Tokens as the provider counted them; estimated where it did not.",
    ["provider", "model", "direction"],
)
PROVIDER_USAGE_REFUSED = Counter(
    "platform_provider_usage_refused",
    "Calls with implausible token counts from the provider (zero for a response with content, absurdly many, not a "
    "number): these counts were not used, and the call is recorded and charged with estimates.",
    ["provider", "model"],
)

USAGE_COST = Counter(
    "platform_usage_cost_usd",
    "What provider calls cost in US dollars, by the configured prices; calls without a known price add nothing.",
    ["provider", "model"],
)
MODEL_CALL_FAILURES = Counter(
    "platform_model_call_failures",
    "Requests that failed before their response's first byte although retries and fallbacks were used, by public model "
    "and the error code that the caller received.",
    ["model", "code"],
)
PROVIDER_RETRIES = Counter(
    "platform_provider_retries", "Retries of a route, by the error before them.", ["provider", "reason"]
)
PROVIDER_FALLBACKS = Counter(
    "platform_provider_fallbacks",
    "Fallbacks to a model's next route, by the provider that failed and its error.",
    ["provider", "reason"],
)
PROVIDER_REFUSED = Counter(
    "platform_provider_refused",
    "Calls that were not sent: breaker_open, queue_full, queue_timeout.",
    ["provider", "reason"],
)
PROVIDER_BREAKER_STATE = Gauge(
    "platform_provider_breaker_state",
    "0 closed, 1 half-open, 2 open; by the model's name at the provider.",
    ["provider", "model"],
    multiprocess_mode="livemax",  # the worst process: a sum or a mean of states says nothing
)
PROVIDER_BREAKER_TRANSITIONS = Counter(
    "platform_provider_breaker_transitions",
    "Changes of a breaker, by the state entered and the model's name at the provider.",
    ["provider", "model", "to"],
)
PROVIDER_SLOTS = Gauge(
    "platform_provider_slots",
    "The max_concurrent of a provider: concurrent calls that it may receive.",
    ["provider"],
    multiprocess_mode="livesum",
)
PROVIDER_SLOTS_IN_USE = Gauge(
    "platform_provider_slots_in_use",
    "Concurrent calls in progress at a provider with max_concurrent.",
    ["provider"],
    multiprocess_mode="livesum",
)
PROVIDER_SLOTS_WAITING = Gauge(
    "platform_provider_slots_waiting",
    "Calls that wait because max_concurrent is reached.",
    ["provider"],
    multiprocess_mode="livesum",
)

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

CONFIG_RELOADS = Counter("platform_config_reloads", "Changes of the config file: applied, refused.", ["outcome"])
CONFIG_REFUSED = Gauge(
    "platform_config_refused",
    "1 while this process refuses the changed config file and keeps the previous configuration.",
    multiprocess_mode="livemax",
)

TRACES_KEPT = Counter("platform_traces_kept", "Requests whose trace is exported: sampled, failed, slow.", ["reason"])
TRACES_DROPPED = Counter(
    "platform_traces_dropped",
    "Traces that were not exported: pipe_full or no_exporter (the exporter's process is slow or gone), too_large.",
    ["reason"],
)
LOG_LINES_DROPPED = Counter("platform_log_lines_dropped", "Log lines lost because the reader of stdout was too slow.")
BUILD_INFO = Gauge(
    "platform_build_info", "Always 1; the version is in the labels.", ["version", "build_sha"],
    multiprocess_mode="livemax",
)  # fmt: skip

MAX_REMEMBERED_CHILDREN = 10_000


def _remember_children(*metrics: Counter | Gauge | Histogram) -> None:
    """Cache a metric's children by label values, which saves locks and name checks: 8 % of the gateway's time under
    load. Label values come from closed sets, so the cache stays far below its bound."""
    for metric in metrics:
        metric.labels = lru_cache(MAX_REMEMBERED_CHILDREN)(metric.labels)  # type: ignore[assignment, method-assign]


_remember_children(
    HTTP_REQUESTS, HTTP_SECONDS, AUTH, LIMITER, PROVIDER_REQUESTS, PROVIDER_SECONDS, PROVIDER_FIRST_CHUNK_SECONDS,
    PROVIDER_TOKENS, USAGE_COST, MODEL_CALL_FAILURES, PROVIDER_RETRIES, PROVIDER_FALLBACKS, PROVIDER_REFUSED,
)  # fmt: skip
