"""Finding one request by an id that its client, a log line, a trace or an error message has.

A request is an access decision, its usage record if a provider was called, its hops and its attempts. Several requests
have the same request id if the client sent the id again with a retry, and the same trace id if they are of one trace.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from platform_app.db.connections import connect
from platform_app.db.models import AccessDecision, UsageRecord
from platform_app.errors import ValidationFailed
from platform_app.ledger.events.access_decision import ACCESS
from platform_app.ledger.events.event import AccessDecision as DecisionEvent
from platform_app.ledger.events.event import LedgerEvent
from platform_app.ledger.events.hops_and_attempts import attempt_of_usage
from platform_app.ledger.events.usage_record import OK, USAGE
from platform_app.ledger.reading.audit_owner import owned_by

MAX_FOUND = 100
"""Requests that one look-up returns, the newest ones."""

_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_CLOCKS = timedelta(seconds=1)
"""A decision's start is its time less its duration, from two clocks."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RequestIds:
    """What a request may be found by. 32 hex digits are a trace id, and also the form of the ids that the gateway gives
    requests, so both are tried."""

    request_id: str | None
    trace_id: str | None

    def marks(self) -> Sequence[bytes]:
        """Return the texts of which a matching line of the spool contains one."""
        return [text.encode() for text in {self.request_id, self.trace_id} if text is not None]


def parse_ids(text: str) -> RequestIds:
    """Return the ids that a request id, a trace id or the value of a `traceparent` header stands for.

    Raises:
        ValidationFailed: it is neither.
    """
    text = text.strip()
    traceparent = _TRACEPARENT.fullmatch(text.lower())
    if traceparent is not None:
        return RequestIds(None, traceparent[1])
    if not _REQUEST_ID.fullmatch(text):
        problem = "id: a request id (up to 128 of A-Z a-z 0-9 . _ : -), a trace id or a traceparent is needed"
        raise ValidationFailed("The request is not valid.", details=[problem])
    return RequestIds(text, text.lower() if _TRACE_ID.fullmatch(text.lower()) else None)


@dataclass(frozen=True, slots=True)
class FoundRequest:
    """One request as JSON-ready data."""

    access: Row | None
    """The access decision; None if it is not stored: the process died, or its retention is over."""
    usage: Row | None
    """The usage record; None if no provider was called."""
    hops: Sequence[Row]
    attempts: Sequence[Row]
    stored: bool = True
    """False if a part of it is still in this machine's spool."""

    def plain(self) -> dict[str, Any]:
        """Return everything as one object."""
        return {
            "access": self.access,
            "usage": self.usage,
            "hops": list(self.hops),
            "attempts": list(self.attempts),
            "stored": self.stored,
        }


@dataclass(slots=True)
class _Rows:
    """Rows by event id, and which of them the database has."""

    decisions: dict[UUID, Row] = field(default_factory=dict)
    usages: dict[UUID, Row] = field(default_factory=dict)
    stored: set[UUID] = field(default_factory=set)

    def add(self, into: dict[UUID, Row], rows: Iterable[Row]) -> None:
        for row in rows:
            into[row["event_id"]] = row
            self.stored.add(row["event_id"])


class RequestFinder:
    """At most four statements for a look-up; raises what the database raises when it is down."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def find(
        self, wanted: RequestIds, *, only_owner: str | None, spooled: Iterable[LedgerEvent] = ()
    ) -> Sequence[FoundRequest]:
        """Return the matching requests, newest first.

        Args:
            wanted: the ids.
            only_owner: the owner whose requests may be found; None for all. See audit_owner.py.
            spooled: matching events that may not be stored yet; only for a reader of every owner.
        """
        rows = _Rows()
        async with connect(self._engine) as connection:
            for column, value in _conditions(AccessDecision, wanted):
                rows.add(rows.decisions, await _read(connection, AccessDecision, column == value, only_owner))
            for column, value in _conditions(UsageRecord, wanted):
                rows.add(rows.usages, await _read(connection, UsageRecord, column == value, only_owner))
        for event in spooled:
            decision = isinstance(event, DecisionEvent)
            row = _row_of(event)
            (rows.decisions if decision else rows.usages).setdefault(row["event_id"], row)
        return _paired(rows)[:MAX_FOUND]


def _conditions(table: type[AccessDecision | UsageRecord], wanted: RequestIds) -> Iterable[tuple[Any, Any]]:
    """Yield a condition for each index that is used. One statement with OR could read a whole table."""
    if wanted.request_id is not None:
        yield table.request_id, wanted.request_id
    if wanted.trace_id is not None:
        yield table.trace_id, UUID(wanted.trace_id)


async def _read(
    connection: AsyncConnection, table: type[AccessDecision | UsageRecord], condition: Any, only_owner: str | None
) -> Sequence[Row]:
    statement = select(table.__table__).where(condition)
    if table is AccessDecision:
        statement = statement.where(*owned_by("access", only_owner))
    elif only_owner is not None:
        statement = statement.where(UsageRecord.owner == only_owner)
    statement = statement.order_by(table.occurred_at.desc()).limit(MAX_FOUND)
    return [dict(row) for row in (await connection.execute(statement)).mappings()]


def _row_of(event: LedgerEvent) -> Row:
    """Return an event as a row of its table."""
    names = (ACCESS if isinstance(event, DecisionEvent) else USAGE).names
    row = {name: getattr(event, name) for name in names}
    return row | {"event_id": UUID(event.event_id), "trace_id": UUID(event.trace_id)}


def _paired(rows: _Rows) -> list[FoundRequest]:
    """Return each decision with its usage record, and the usage records that have no decision."""
    unpaired = dict(rows.usages)
    found: list[tuple[datetime, FoundRequest]] = []
    for identity, decision in rows.decisions.items():
        usage_id = next((key for key, usage in unpaired.items() if _of_one_request(decision, usage)), None)
        usage = unpaired.pop(usage_id) if usage_id is not None else None
        stored = identity in rows.stored and (usage_id is None or usage_id in rows.stored)
        found.append((decision["occurred_at"], _found(decision, usage, stored)))
    for identity, usage in unpaired.items():
        found.append((usage["occurred_at"], _found(None, usage, identity in rows.stored)))
    return [each for _, each in sorted(found, key=lambda pair: pair[0], reverse=True)]


def _of_one_request(decision: Row, usage: Row) -> bool:
    same = all(decision[name] == usage[name] for name in ("request_id", "trace_id", "key_id"))
    return same and _began(decision) - _CLOCKS <= usage["occurred_at"] <= decision["occurred_at"] + _CLOCKS


def _began(decision: Row) -> datetime:
    began: datetime = decision["occurred_at"] - timedelta(milliseconds=decision["duration_ms"])
    return began


def _found(decision: Row | None, usage: Row | None, stored: bool) -> FoundRequest:
    access = ACCESS.show(decision) if decision is not None else {}
    hops, attempts = access.pop("hops", None), access.pop("attempts", None)
    if attempts is None and usage is not None and (usage["attempts"], usage["outcome"]) == (1, OK):
        start_ms = None
        if decision is not None:
            start_ms = max(0.0, round((usage["occurred_at"] - _began(decision)).total_seconds() * 1000, 3))
        attempts = [attempt_of_usage(usage, start_ms)]
    return FoundRequest(
        access or None, None if usage is None else USAGE.show(usage), hops or (), attempts or (), stored
    )
