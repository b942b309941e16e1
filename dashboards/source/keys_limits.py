"""Keys and limits: who is refused and by which rule, what keys use and cost, and what changed about them."""

from dashboards.source.frame import Page, Row, records_source
from dashboards.source.lines import gauges, increases, quantiles, rates
from dashboards.source.panels import Limits, Query, Text, graph, states
from dashboards.source.queries import TRAFFIC, rate, share
from dashboards.source.records import KEY_CHANGES, REFUSED_KEYS, TOP_KEYS, records_table

_QUANTILES = (0.5, 0.9, 0.99)


def page() -> Page:
    """Return the dashboard."""
    return Page(
        uid="flowbiz-keys-limits",
        title="FlowBiz: Keys and limits",
        description="Authentication, limits, budgets, changes of keys, and usage by key. docs/observability.md",
        variables=[records_source()],
        rows=[_limits(), _budgets(), _keys(), _records(), _idempotency()],
    )


def _limits() -> Row:
    denied = share(
        rate("platform_requests_total", TRAFFIC, 'outcome="denied"'), rate("platform_requests_total", TRAFFIC)
    )
    return Row(
        "Limits",
        [
            graph(
                "Denials by rule",
                Text(
                    "Requests that a rule denied (enforce), or would have denied (shadow).",
                    "few, from clients that exceed their limits.",
                ),
                "reqps",
                rates("platform_limiter_denials_total", by=("rule", "mode")),
                width=8,
            ),
            graph(
                "Denied requests",
                Text(
                    "The share of requests that a policy refused: credentials, scope, model, limit or budget.",
                    "below 5 %.",
                    ("RefusalsFlood",),
                ),
                "percentunit",
                Query(denied, "denied"),
                width=8,
            ),
            graph(
                "Limiter decisions",
                Text(
                    "Decisions by mode. Mode local: Redis is down and each process enforces its share of the limit.",
                    "allowed redis, and some denied redis.",
                    ("LimiterDegraded", "LimiterClosed"),
                ),
                "reqps",
                rates("platform_limiter_total", by=("decision", "mode")),
                width=8,
            ),
            states(
                "Limiter without Redis",
                Text(
                    "1 while a process of an instance enforces limits without Redis.",
                    "0.",
                    ("LimiterDegraded",),
                ),
                "none",
                gauges("max", "platform_limiter_degraded", by=("instance",)),
                limits=Limits(1, 1),
                width=8,
            ),
            graph(
                "Calls to Redis",
                Text("The limiter's calls to Redis.", "p99 below 10 ms.", ("LimiterDegraded",)),
                "s",
                *quantiles("platform_limiter_duration_seconds", of=_QUANTILES),
                limits=Limits(0.01, 0.05),
                log_scale=True,
                width=8,
            ),
            graph(
                "Refused without Redis",
                Text("Requests of rules with `on_outage: closed`.", "0.", ("LimiterClosed",)),
                "reqps",
                rates("platform_limiter_closed_total", by=("rule",)),
                width=8,
            ),
        ],
    )


def _budgets() -> Row:
    return Row(
        "Budgets",
        [
            graph(
                "Settlements",
                Text(
                    "Settlements of reservations in Redis at the end of requests.",
                    "all sent.",
                    ("LimiterSettlementsFailing",),
                ),
                "reqps",
                rates("platform_limiter_settlements_total", by=("outcome",)),
                width=8,
            ),
            graph(
                "Requests without a known price",
                Text(
                    "Requests under a budget for a model whose price is not known, by the rule's `on_no_price`.",
                    "0.",
                    ("BudgetUnpriced",),
                ),
                "reqps",
                rates("platform_budget_unpriced_total", by=("rule", "action")),
                width=8,
            ),
            graph(
                "Initialized budgets",
                Text(
                    "Calendar budgets whose counter is new, as after a restart of Redis. `told`: initialized from the "
                    "ledger. failed, late: each process enforces its share.",
                    "some `told` at the start of a day or month.",
                    ("BudgetSeedsFailing",),
                ),
                "cps",
                rates("platform_budget_seeds_total", by=("outcome",)),
                width=8,
            ),
        ],
    )


def _keys() -> Row:
    return Row(
        "Keys",
        [
            graph(
                "Authentications",
                Text(
                    "Authentications by outcome. stale: the database is down and a cached key was accepted.",
                    "accepted, and few others.",
                    ("AuthUnavailable", "AuthStale", "RefusalsFlood"),
                ),
                "reqps",
                rates("platform_auth_total", by=("outcome",)),
                width=8,
            ),
            graph(
                "Look-ups of keys",
                Text(
                    "Look-ups in PostgreSQL, for keys that are not cached.",
                    "p99 below 25 ms.",
                    ("AuthUnavailable",),
                ),
                "s",
                *quantiles("platform_auth_lookup_duration_seconds", of=_QUANTILES),
                limits=Limits(0.025, 0.25),
                log_scale=True,
                width=8,
            ),
            graph(
                "Cached keys",
                Text(
                    "Keys in the caches of the workers, and look-ups a second.",
                    "look-ups follow the number of keys in use, not the requests.",
                    ("AuthUnavailable",),
                ),
                "short",
                gauges("sum", "platform_key_cache_entries", by=("instance",), prefix="keys"),
                rates("platform_auth_lookup_duration_seconds_count", by=("instance",), prefix="look-ups"),
                width=8,
            ),
            graph(
                "Invalid and misplaced keys",
                Text(
                    "Authentications refused because their address failed too often, and keys in a field where they "
                    "are not accepted.",
                    "0. A misplaced key is a leaked key.",
                    ("RefusalsFlood",),
                ),
                "reqps",
                rates("platform_auth_throttled_total", by=("instance",), prefix="throttled"),
                rates("platform_misplaced_credentials_total", by=("field",), prefix="key in"),
                width=8,
            ),
            graph(
                "Changes of keys",
                Text(
                    "Changes over HTTP: ok, or the error code of the refusal. The table below names them.",
                    "few.",
                    ("KeyChangesRefused",),
                ),
                "short",
                increases("platform_key_changes_total", by=("action", "outcome")),
                width=4,
            ),
            graph(
                "Announcements of changes",
                Text("Changes that Redis spread to the workers.", "as many as changes.", ("KeyListenerDisconnected",)),
                "short",
                increases("platform_key_announcements_total", by=("outcome",)),
                width=4,
            ),
            states(
                "Subscribed to changes",
                Text(
                    "0: a worker notices a revoked key only when its cache expires.", "1.", ("KeyListenerDisconnected",)
                ),
                "none",
                gauges("min", "platform_key_listener_connected", by=("instance",)),
                limits=Limits(1, 1),
                width=8,
            ),
        ],
    )


def _records() -> Row:
    return Row(
        "Records in PostgreSQL",
        [
            records_table(
                "Top keys by cost",
                Text(
                    "Usage and cost of the keys in this time range, from the ledger. Also: `flowbiz-platform usage`.",
                    "the same keys as on other days.",
                ),
                TOP_KEYS,
                width=12,
            ),
            records_table(
                "Keys that are refused most",
                Text(
                    "Denied requests by key and reason in this time range, from the access decisions.",
                    "few. One key with thousands is a client that retries without a pause.",
                    ("RefusalsFlood",),
                ),
                REFUSED_KEYS,
                width=12,
            ),
            records_table(
                "Changes of keys",
                Text(
                    "Creations, rotations, revocations and refused changes in this time range, from the audit events.",
                    "every change has an actor that you know.",
                    ("KeyChangesRefused",),
                ),
                KEY_CHANGES,
                width=24,
            ),
        ],
    )


def _idempotency() -> Row:
    return Row(
        "Idempotency",
        [
            graph(
                "Requests with an Idempotency-Key",
                Text(
                    "By outcome. A started request ends as stored, released or lost, or its response is not kept: "
                    "too_large, over_quota, memory_full.",
                    "started and stored are equal, with some replayed.",
                    ("IdempotencyResponsesNotKept",),
                ),
                "reqps",
                rates("platform_idempotency_total", by=("outcome",)),
            ),
            graph(
                "Work that continues without its client",
                Text(
                    "Requests with an Idempotency-Key whose client disconnected.",
                    "below a quarter of PLATFORM_MAX_CONCURRENT_REQUESTS of each worker.",
                ),
                "short",
                gauges("sum", "platform_idempotency_detached", by=("instance",)),
            ),
        ],
    )
