"""Calls to providers by the names of OpenTelemetry's GenAI conventions, as its Prometheus mapping writes them.

The buckets are the conventions' own. `gen_ai_request_model` is the model's name at the provider.
"""

from platform_app.observability.metrics.kinds import Histogram

_DURATION_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKEN_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
_LABELS = ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"]

GEN_AI_DURATION = Histogram(
    "gen_ai_client_operation_duration_seconds",
    "One attempt at a provider, from sending to the last byte; error_type is empty for a success.",
    [*_LABELS, "error_type"],
    buckets=_DURATION_BUCKETS,
)
GEN_AI_TOKENS = Histogram(
    "gen_ai_client_token_usage",
    "Tokens of one attempt at a provider, by type: input, output; as charged.",
    [*_LABELS, "gen_ai_token_type"],
    buckets=_TOKEN_BUCKETS,
)
GEN_AI_FIRST_CHUNK = Histogram(
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    "Streams: from sending to the first chunk.",
    _LABELS,
    buckets=_DURATION_BUCKETS,
)
GEN_AI_PER_CHUNK = Histogram(
    "gen_ai_client_operation_time_per_output_chunk_seconds",
    "Streams: the mean time between two chunks of one attempt, counted once for each chunk.",
    _LABELS,
    buckets=_DURATION_BUCKETS,
)
