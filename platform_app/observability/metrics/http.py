"""Requests over HTTP, their outcomes, and where their time goes."""

from platform_app.observability.metrics.kinds import FINE_BUCKETS, REQUEST_BUCKETS, Counter, Gauge, Histogram

HTTP_REQUESTS = Counter(
    "platform_http_requests", "HTTP requests with a response, by route template.", ["method", "route", "status"]
)

HTTP_SECONDS = Histogram(
    "platform_http_request_duration_seconds",
    "From the request's first byte read to the response's last byte written.",
    ["route"],
    buckets=REQUEST_BUCKETS,
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

STREAM_EARLY_HEADS = Counter(
    "platform_stream_early_heads",
    "Streams whose head was sent before their first event, because that took longer than "
    "PLATFORM_STREAM_KEEP_ALIVE_SECONDS; a failure after that is sent as an event instead of a status.",
)

REQUESTS = Counter(
    "platform_requests",
    "Requests that have ended, by what became of them: ok, caller_error, denied, provider_error, gateway_error, "
    "draining, client_closed.",
    ["route", "outcome"],
)
MODEL_REQUESTS = Counter(
    "platform_model_requests",
    "Requests for a model of the config file, by its public name: ok, caller_error, denied, provider_error, "
    "gateway_error, draining, client_closed; an open breaker is provider_error.",
    ["model", "outcome"],
)
OVERHEAD_SECONDS = Histogram(
    "platform_overhead_seconds",
    "What the gateway itself adds until the response's first byte, without the waits for the client's body, for "
    "providers and before retries.",
    ["route"],
    buckets=FINE_BUCKETS,
)
HOP_SECONDS = Histogram(
    "platform_hop_duration_seconds",
    "The steps of requests: auth, limits, receive, parse, idempotency, secret, queue, retry_wait, fallback, provider, "
    "ledger.",
    ["hop"],
    buckets=(*FINE_BUCKETS, 30, 60, 120),
)
STREAMS_OPEN = Gauge("platform_streams_open", "Streamed responses in progress.", multiprocess_mode="livesum")
