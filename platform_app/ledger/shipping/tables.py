"""The ledger's tables: which event goes where, as which row, and for how long."""

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from platform_app.config import Settings
from platform_app.ledger.events.event import AccessDecision, LedgerEvent, UsageRecord

Row = tuple[Any, ...]
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True, slots=True)
class Table:
    """Where events of one kind go, and what COPY is given for one."""

    name: str
    columns: tuple[str, ...]
    row: Callable[[Any], Row]


def _access_row(event: AccessDecision) -> Row:
    return (
        event.occurred_at,
        event.event_id,
        event.trace_id,
        event.request_id,
        event.key_id,
        event.method,
        event.route,
        event.decision,
        event.reason,
        event.status,
        _address(event.client_address),
        event.duration_ms,
        event.count,
    )


ACCESS_DECISIONS = Table(
    "access_decisions",
    (
        "occurred_at", "event_id", "trace_id", "request_id", "key_id", "method", "route", "decision", "reason",
        "status", "client_address", "duration_ms", "count",
    ),
    _access_row,
)  # fmt: skip


def _usage_row(event: UsageRecord) -> Row:
    return (
        event.occurred_at,
        event.event_id,
        event.trace_id,
        event.cost_microusd,
        event.prompt_tokens,
        event.completion_tokens,
        event.cached_tokens,
        event.duration_ms,
        event.first_token_ms,
        event.attempts,
        event.stream,
        event.estimated,
        event.request_id,
        event.key_id,
        event.owner,
        event.route,
        event.provider,
        event.model,
        event.upstream_model,
        event.outcome,
        event.provider_usage,
    )


USAGE_RECORDS = Table(
    "usage_records",
    (
        "occurred_at", "event_id", "trace_id", "cost_microusd", "prompt_tokens", "completion_tokens", "cached_tokens",
        "duration_ms", "first_token_ms", "attempts", "stream", "estimated", "request_id", "key_id", "owner", "route",
        "provider", "model", "upstream_model", "outcome", "provider_usage",
    ),
    _usage_row,
)  # fmt: skip

TABLES = (ACCESS_DECISIONS, USAGE_RECORDS)
"""Every transaction fills them in this order, so that two of them cannot wait for each other; the last one's trigger
takes locks that writers share, which are best held briefly."""

_TABLES: Mapping[type[LedgerEvent], Table] = {AccessDecision: ACCESS_DECISIONS, UsageRecord: USAGE_RECORDS}

Retention = Mapping[Table, int]
"""How many days before today each table keeps."""


def table_of(event: LedgerEvent) -> Table:
    """Where an event goes."""
    return _TABLES[type(event)]


def retention_of(settings: Settings) -> Retention:
    """The days that the settings want kept."""
    return {ACCESS_DECISIONS: settings.retention_days, USAGE_RECORDS: settings.usage_retention_days}


@lru_cache(maxsize=4096)
def _address(text: str | None) -> _Address | _Network | None:
    if text is None:
        return None
    return ipaddress.ip_interface(text) if "/" in text else ipaddress.ip_address(text)
