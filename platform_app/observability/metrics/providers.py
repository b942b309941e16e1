"""Calls to providers."""

from platform_app.observability.metrics.kinds import REQUEST_BUCKETS, Counter, Gauge, Histogram

PROVIDER_REQUESTS = Counter(
    "platform_provider_requests",
    "Provider calls by outcome: ok, client_closed, or the error code that the caller received.",
    ["provider", "model", "outcome"],
)

PROVIDER_SECONDS = Histogram(
    "platform_provider_request_duration_seconds",
    "From sending the provider call to its last byte.",
    ["provider", "model"],
    buckets=REQUEST_BUCKETS,
)

PROVIDER_FIRST_CHUNK_SECONDS = Histogram(
    "platform_provider_first_chunk_seconds",
    "From sending a streaming provider call to its first chunk.",
    ["provider", "model"],
    buckets=REQUEST_BUCKETS,
)

PROVIDER_CONNECTIONS = Counter(
    "platform_provider_connections",
    "New connections to providers, by the host of the config file: made, failed (refused, unknown name, bad "
    "certificate), timed_out (no response in time, or no free connection), proxy_refused (by the egress proxy).",
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

SESSION_OUTCOMES = ("first_choice", "breaker_open", "failed", "strategy", "pinned")
SESSION_ROUTES = Counter(
    "platform_session_routes",
    "Calls of sessions to models with several weighted routes, by the route that responded: first_choice, or another "
    "one because the first choice's breaker was open (breaker_open), because it failed (failed), or because the "
    "model's strategy left it (strategy); pinned: the route that stores the response that the request refers to.",
    ["model", "outcome"],
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

PROVIDER_POOL_CONNECTIONS = Gauge(
    "platform_provider_pool_connections",
    "Open connections to providers, by the host of the config file and state: in_use, idle.",
    ["host", "state"],
    multiprocess_mode="livesum",
)
CACHED_INPUT_TOKENS = Counter(
    "platform_cached_input_tokens",
    "Input tokens that the provider read from its prompt cache; platform_provider_tokens contains them.",
    ["provider", "model"],
)
