"""From a segment's bytes to the rows of one transaction, table by table, with whatever is no event set apart."""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from platform_app.ledger.events.event import BadLineError, LedgerEvent, decode
from platform_app.ledger.shipping.tables import TABLES, Retention, Table, table_of

LINES_PER_TURN = 100
"""About a millisecond's work; requests get their turn in between."""
FUTURE_DAYS = 1
"""A clock this far ahead is taken to be right."""


@dataclass(slots=True)
class Batch:
    """Events that are shipped in one transaction."""

    events: dict[Table, list[LedgerEvent]] = field(default_factory=dict)

    def add(self, event: LedgerEvent) -> None:
        """Take one more event."""
        self.events.setdefault(table_of(event), []).append(event)

    def in_order(self) -> Iterator[tuple[Table, list[LedgerEvent]]]:
        """What there is for each table, in the order in which every transaction takes them."""
        return ((table, self.events[table]) for table in TABLES if table in self.events)

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
    """Events that are older than anything that their table keeps."""


async def parse(data: bytes, retention: Retention, now: datetime | None = None) -> Parsed:
    """Take a segment apart, giving way to others every hundred lines."""
    today = (now or datetime.now(UTC)).date()
    # The same first days that maintenance keeps (partitions.py).
    oldest = {table: today - timedelta(days=days) for table, days in retention.items()}
    newest = today + timedelta(days=FUTURE_DAYS)
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
        if event.occurred_at.date() < oldest[table_of(event)]:
            parsed.expired += 1
            continue
        parsed.batch.add(event)
    return parsed
