"""From a segment's bytes to the rows of one transaction, table by table, with whatever is no event set apart."""

import asyncio
import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

from platform_app.ledger.event import AccessDecision, BadLineError, LedgerEvent, decode

LINES_PER_TURN = 100
"""About a millisecond's work; requests get their turn in between."""
FUTURE_DAYS = 1
"""A clock this far ahead is taken to be right."""

Row = tuple[Any, ...]


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
    )


ACCESS_DECISIONS = Table(
    "access_decisions",
    (
        "occurred_at", "event_id", "trace_id", "request_id", "key_id", "method", "route", "decision", "reason",
        "status", "client_address", "duration_ms",
    ),
    _access_row,
)  # fmt: skip

_TABLES: Mapping[type[LedgerEvent], Table] = {AccessDecision: ACCESS_DECISIONS}
TABLES = tuple(_TABLES.values())


@dataclass(slots=True)
class Batch:
    """Events that are shipped in one transaction."""

    events: dict[Table, list[LedgerEvent]] = field(default_factory=dict)

    def add(self, event: LedgerEvent) -> None:
        """Take one more event."""
        self.events.setdefault(_TABLES[type(event)], []).append(event)

    def days(self) -> Iterator[tuple[Table, date]]:
        """The partitions that it needs, each once."""
        for table, events in self.events.items():
            for day in {event.occurred_at.date() for event in events}:
                yield table, day

    def all(self) -> list[LedgerEvent]:
        """Every event."""
        return [event for events in self.events.values() for event in events]

    def __len__(self) -> int:
        return sum(len(events) for events in self.events.values())


def batch_of(events: Iterable[LedgerEvent]) -> Batch:
    """A batch of these events."""
    batch = Batch()
    for event in events:
        batch.add(event)
    return batch


@dataclass(slots=True)
class Parsed:
    """A segment's content."""

    batch: Batch = field(default_factory=Batch)
    bad: list[bytes] = field(default_factory=list)
    """Lines that are no event, each with its line feed, and events from a future that no clock should know."""
    torn: bytes = b""
    """The last line of a writer that died in it, or that the disk cut off: the answer that it was for never ended."""
    expired: int = 0
    """Events that are older than anything that is kept."""


async def parse(data: bytes, retention_days: int, now: datetime | None = None) -> Parsed:
    """Take a segment apart, giving way to others every hundred lines."""
    today = (now or datetime.now(UTC)).date()
    # The same first day that maintenance keeps (partitions.py).
    oldest, newest = today - timedelta(days=retention_days), today + timedelta(days=FUTURE_DAYS)
    parsed = Parsed()
    *lines, rest = data.split(b"\n")
    if rest:
        lines.append(rest)
    for index, line in enumerate(lines):
        if index % LINES_PER_TURN == LINES_PER_TURN - 1:
            await asyncio.sleep(0)
        try:
            event = decode(line)
            if event.occurred_at.date() > newest:
                raise BadLineError("occurred in the future")
        except BadLineError:
            if rest and index == len(lines) - 1:
                parsed.torn = line
            else:
                parsed.bad.append(line + b"\n")
            continue
        if event.occurred_at.date() < oldest:
            parsed.expired += 1
            continue
        parsed.batch.add(event)
    return parsed


@lru_cache(maxsize=4096)
def _address(text: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    return ipaddress.ip_address(text) if text is not None else None
