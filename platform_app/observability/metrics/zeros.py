"""Series that exist from the start, with the value 0.

`rate` and `increase` do not see a series that appears: the first lost record would raise no alert. And a sum of two
metrics has no value while one of them has no series. So the rare outcomes of closed sets are created at import, and
those of providers, models and rules when the config file is read.
"""

import itertools
from collections.abc import Mapping

from platform_app.observability.metrics.access import (
    AUTH,
    BUDGET_SEEDS,
    BUDGET_UNPRICED,
    IDEMPOTENCY,
    KEY_ANNOUNCEMENTS,
    KEY_CHANGES,
    LIMITER,
    LIMITER_CLOSED,
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
from platform_app.observability.metrics.providers import PROVIDER_REFUSED, PROVIDER_REQUESTS, PROVIDER_USAGE_REFUSED
from platform_app.observability.metrics.runtime import CONFIG_RELOADS
from platform_app.observability.metrics.signals import TRACES_DROPPED, TRACES_KEPT

KEY_ACTIONS = ("create", "update", "rotate", "revoke")
KEY_REFUSALS = ("insufficient_scope", "validation_error", "not_found", "conflict", "invalid_api_key")
PROVIDER_OUTCOMES = ("provider_auth_failed", "provider_quota_exhausted")
"""Of provider calls: one of them raises an alert."""

ZEROS: Mapping[Counter, tuple[str | tuple[str, ...], ...]] = {
    AUTH: ("accepted", "refused", "malformed", "missing", "stale", "unavailable"),
    BUDGET_SEEDS: ("told", "failed", "late"),
    CONFIG_RELOADS: ("applied", "refused"),
    HTTP_REFUSED: ("bodies_in_flight", "connections", "connections_per_address"),
    IDEMPOTENCY: ("over_quota", "memory_full", "unavailable"),
    KEY_ANNOUNCEMENTS: ("sent", "failed", "received"),
    KEY_CHANGES: tuple(itertools.product(KEY_ACTIONS, ("ok", *KEY_REFUSALS))),
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


def start_route_at_zero(provider: str, model: str) -> None:
    """Create the series of a route of the config file. `model` is the public name, a wildcard as it is written."""
    for outcome in PROVIDER_OUTCOMES:
        PROVIDER_REQUESTS.labels(provider, model, outcome)
    PROVIDER_USAGE_REFUSED.labels(provider, model)


def start_refusals_at_zero(provider: str, *reasons: str) -> None:
    """Create the series of calls that are not sent to a provider."""
    for reason in reasons:
        PROVIDER_REFUSED.labels(provider, reason)


def start_rule_at_zero(rule: str, *, closes: bool, unpriced_action: str | None) -> None:
    """Create the series of a limit rule: of one that refuses requests while Redis is down, and of one that limits cost,
    with what it does about a price that is not known."""
    if closes:
        LIMITER_CLOSED.labels(rule)
    if unpriced_action is not None:
        BUDGET_UNPRICED.labels(rule, unpriced_action)
