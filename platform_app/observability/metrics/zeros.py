"""Series that exist from the start, with the value 0.

`rate` and `increase` do not see a series that appears: the first lost record would raise no alert. And a sum of two
metrics has no value while one of them has no series. So the rare outcomes of closed sets are created at import.
"""

from collections.abc import Mapping

from platform_app.observability.metrics.access import (
    AUTH,
    BUDGET_SEEDS,
    IDEMPOTENCY,
    KEY_ANNOUNCEMENTS,
    LIMITER,
    LIMITER_SETTLEMENTS,
)
from platform_app.observability.metrics.http import HTTP_REFUSED
from platform_app.observability.metrics.kinds import Counter
from platform_app.observability.metrics.ledger import (
    LEDGER_BAD_LINES,
    LEDGER_COUNTED,
    LEDGER_DROPPED,
    LEDGER_ORPHAN_CHARGES,
)
from platform_app.observability.metrics.runtime import CONFIG_RELOADS
from platform_app.observability.metrics.signals import TRACES_DROPPED, TRACES_KEPT

ZEROS: Mapping[Counter, tuple[str | tuple[str, ...], ...]] = {
    AUTH: ("accepted", "refused", "malformed", "missing", "stale", "unavailable"),
    BUDGET_SEEDS: ("told", "failed", "late"),
    CONFIG_RELOADS: ("applied", "refused"),
    HTTP_REFUSED: ("bodies_in_flight", "connections", "connections_per_address"),
    IDEMPOTENCY: ("over_quota", "memory_full", "unavailable"),
    KEY_ANNOUNCEMENTS: ("sent", "failed", "received"),
    LEDGER_BAD_LINES: ("undecodable", "refused", "torn"),
    LEDGER_COUNTED: ("own", "other"),
    LEDGER_DROPPED: ("spool_full", "spool_failing", "expired"),
    LEDGER_ORPHAN_CHARGES: ("charged", "repeated", "expired", "invalid"),
    LIMITER: (
        ("allowed", "shared"),
        ("denied", "shared"),
        ("unavailable", "shared"),
        ("denied", "remembered"),
        ("allowed", "local"),
        ("denied", "local"),
        ("closed", "local"),
    ),
    LIMITER_SETTLEMENTS: ("sent", "failed", "dropped", "renewal_failed"),
    TRACES_DROPPED: ("pipe_full", "no_exporter", "too_large", "invalid", "damaged"),
    TRACES_KEPT: ("sampled", "failed", "slow"),
}
"""The label values of each counter's series; those of several labels are a tuple."""


def start_at_zero() -> None:
    """Create the series."""
    for counter, values in ZEROS.items():
        for value in values:
            counter.labels(*((value,) if isinstance(value, str) else value))
