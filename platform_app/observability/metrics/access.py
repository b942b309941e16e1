"""Authentication, API keys, limits, idempotency and secrets."""

from platform_app.observability.metrics.kinds import STORE_BUCKETS, Counter, Gauge, Histogram

AUTH = Counter(
    "platform_auth",
    "Authentications by outcome: accepted, refused, malformed, missing, stale (database down), unavailable.",
    ["outcome"],
)

AUTH_LOOKUP_SECONDS = Histogram(
    "platform_auth_lookup_duration_seconds", "Key look-ups in PostgreSQL.", buckets=STORE_BUCKETS
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

LIMITER_SECONDS = Histogram("platform_limiter_duration_seconds", "Limiter calls to Redis.", buckets=STORE_BUCKETS)

LIMITER_DEGRADED = Gauge(
    "platform_limiter_degraded",
    "1 while this process limits by itself because Redis is down.",
    multiprocess_mode="livemax",
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

SECRET_LOOKUPS = Counter(
    "platform_secret_lookups",
    "Look-ups in the secret store, without cache hits: found, missing, unusable, unavailable.",
    ["store", "outcome"],
)

SECRETS_STALE = Gauge(
    "platform_secrets_stale",
    "Secrets of this process whose last look-up failed or found an unusable value: the last good value is served, or "
    "it has expired.",
    multiprocess_mode="livemax",
)

SECRET_AGE_SECONDS = Gauge(
    "platform_secret_age_seconds",
    "Seconds since the look-up of the oldest value that is served.",
    multiprocess_mode="livemax",
)

KEY_CACHE_ENTRIES = Gauge(
    "platform_key_cache_entries", "API keys in the caches of the workers.", multiprocess_mode="livesum"
)
