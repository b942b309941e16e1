"""Every metric of the gateway. Label values come from closed sets: route templates, names from the config file, and the
outcomes written here. Text from a client never becomes a label.

http.py        requests by route and outcome, the gateway's own time, connections
access.py      authentication, keys, limits, idempotency, secrets
providers.py   calls to providers, retries, fallbacks, breakers; gen_ai.py by OpenTelemetry's names
ledger.py      the ledger and its spool
signals.py     traces and log lines
runtime.py     workers, event loop, pools, configuration
kinds.py       Counter, Gauge and Histogram, and the buckets
zeros.py       the series that exist before their first event
changes.py     changed values, which wait until they are written together
mapped_values.py  the memory-mapped files; reserved_files.py reserves their blocks on the disk

With several workers each process counts in these files and the parent aggregates them (prometheus_client's
multiprocess mode). So each gauge declares how it is aggregated.
"""
# ruff: noqa: F403, F405 - this module is the one name under which all metrics are used

from functools import lru_cache

from platform_app.observability.metrics.access import *
from platform_app.observability.metrics.gen_ai import *
from platform_app.observability.metrics.http import *
from platform_app.observability.metrics.kinds import Counter, Gauge, Histogram
from platform_app.observability.metrics.ledger import *
from platform_app.observability.metrics.providers import *
from platform_app.observability.metrics.runtime import *
from platform_app.observability.metrics.signals import *
from platform_app.observability.metrics.zeros import start_at_zero

MAX_REMEMBERED_CHILDREN = 10_000


def _remember_children(*metrics: Counter | Gauge | Histogram) -> None:
    """Cache a metric's children by label values, which saves locks and name checks: 8 % of the gateway's time under
    load. Label values come from closed sets, so the cache stays far below its bound."""
    for metric in metrics:
        metric.labels = lru_cache(MAX_REMEMBERED_CHILDREN)(metric.labels)  # type: ignore[assignment, method-assign]


_remember_children(
    HTTP_REQUESTS, HTTP_SECONDS, AUTH, LIMITER, PROVIDER_REQUESTS, PROVIDER_SECONDS, PROVIDER_FIRST_CHUNK_SECONDS,
    PROVIDER_TOKENS, USAGE_COST, MODEL_CALL_FAILURES, PROVIDER_RETRIES, PROVIDER_FALLBACKS, PROVIDER_REFUSED,
    REQUESTS, MODEL_REQUESTS, OVERHEAD_SECONDS, HOP_SECONDS, CACHED_INPUT_TOKENS,
    GEN_AI_DURATION, GEN_AI_TOKENS, GEN_AI_FIRST_CHUNK, GEN_AI_PER_CHUNK,
)  # fmt: skip
start_at_zero()
