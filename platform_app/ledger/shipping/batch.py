"""From a segment's bytes to the lines that one transaction ships, by table and day.

A line of the current version is not decoded: its kind and its day are at its start, and PostgreSQL checks the rest
(shipper.py). Lines of other versions, and the lines of a segment that was damaged, are decoded and written again.
"""

import asyncio
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from platform_app.ledger.events.event import BadLineError, LedgerEvent, decode
from platform_app.ledger.shipping.tables import TABLES, Retention, Table

SORTED_PER_TURN = 1000
DECODED_PER_TURN = 100
"""Lines; about a millisecond's work each. Then requests get their turn."""
FUTURE_DAYS = 1
"""A clock that is this far ahead is considered right."""

_START_BYTES = 24
"""More than the kind and the day of any line take. It includes the hour, which makes some more groups and no harm."""
_START = re.compile(rb'\["(\w+)","(\d{4}-\d\d-\d\d)')
_BY_KIND = {table.columns.kind.encode(): table for table in TABLES}


@dataclass(slots=True)
class Batch:
    """Lines that are shipped in one transaction. They have no line feeds."""

    groups: dict[tuple[Table, date], list[bytes]] = field(default_factory=dict)

    def add(self, table: Table, day: date, lines: list[bytes]) -> None:
        """Add lines of a table whose events occurred on one UTC day."""
        self.groups.setdefault((table, day), []).extend(lines)

    def in_order(self) -> Iterator[tuple[Table, list[bytes]]]:
        """Return the lines of each table that has some, in the order in which every transaction fills the tables."""
        for table in TABLES:
            if lines := [line for (each, _), group in self.groups.items() if each is table for line in group]:
                yield table, lines

    def days(self) -> Iterable[tuple[Table, date]]:
        """Return the partitions that the batch needs, each once."""
        return self.groups.keys()

    def all(self) -> list[bytes]:
        """Return every line."""
        return [line for group in self.groups.values() for line in group]

    def __len__(self) -> int:
        return sum(map(len, self.groups.values()))


def batch_of(events: Iterable[LedgerEvent]) -> Batch:
    """Return a batch of these events."""
    return batch_of_lines([event.line()[:-1] for event in events])


def batch_of_lines(lines: Sequence[bytes]) -> Batch:
    """Return a batch of these lines, which all begin with a kind and a day."""
    batch = Batch()
    for line in lines:
        if (place := _place(line)) is not None:
            batch.add(*place, [line])
    return batch


@dataclass(slots=True)
class Parsed:
    """A segment's content."""

    batch: Batch = field(default_factory=Batch)
    bad: list[bytes] = field(default_factory=list)
    """Lines that hold no event, and events of a future that no right clock knows."""
    torn: bytes = b""
    """The last line of a process that died while it wrote it, or that the disk cut off. Its request had no response."""
    expired: int = 0
    """Events that are older than everything that their table keeps."""


async def parse(data: bytes, retention: Retention, *, current: bool, now: datetime | None = None) -> Parsed:
    """Sort a segment's lines. Other tasks get their turn in between.

    Args:
        data: the segment.
        retention: the days that each table keeps.
        current: the lines are of the version that this process writes.
        now: the time.
    """
    parsed = Parsed()
    *lines, rest = data.split(b"\n")
    # Every line that was written whole ends in a bracket, and no line contains a bracket before a line feed.
    if not current or data.count(b"]\n") != len(lines):
        lines, parsed.bad = await check_lines(lines)
    if rest:
        good, _ = await check_lines([rest])  # it may lack its line feed alone
        lines += good
        parsed.torn = b"" if good else rest
    days = _Days(retention, (now or datetime.now(UTC)).date())
    for start, group in (await _by_start(lines)).items():
        place = _place(start)
        if place is None or days.in_future(place[1]):
            parsed.bad += group
        elif days.is_expired(*place):
            parsed.expired += len(group)
        else:
            parsed.batch.add(*place, group)
    return parsed


async def check_lines(lines: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Decode lines of any version. Returns those that hold an event, written again, and the others as they are."""
    good, bad = [], []
    for index, line in enumerate(lines):
        if index % DECODED_PER_TURN == DECODED_PER_TURN - 1:
            await asyncio.sleep(0)
        try:
            good.append(decode(line).line()[:-1])
        except BadLineError:
            bad.append(line)
    return good, bad


async def _by_start(lines: Sequence[bytes]) -> dict[bytes, list[bytes]]:
    groups: dict[bytes, list[bytes]] = {}
    for begin in range(0, len(lines), SORTED_PER_TURN):
        if begin:
            await asyncio.sleep(0)
        for line in lines[begin : begin + SORTED_PER_TURN]:
            start = line[:_START_BYTES]
            group = groups.get(start)
            if group is None:
                groups[start] = [line]
            else:
                group.append(line)
    return groups


def _place(line: bytes) -> tuple[Table, date] | None:
    """Return the table and the day of a line; None if it does not begin with them."""
    match = _START.match(line)
    table = _BY_KIND.get(match[1]) if match is not None else None
    if match is None or table is None:
        return None
    try:
        return table, date.fromisoformat(match[2].decode())
    except ValueError:
        return None


class _Days:
    """The days that are stored."""

    def __init__(self, retention: Retention, today: date) -> None:
        # The same first days that maintenance keeps (partitions.py).
        self._oldest = {table: today - timedelta(days=days) for table, days in retention.items()}
        self._newest = today + timedelta(days=FUTURE_DAYS)

    def in_future(self, day: date) -> bool:
        return day > self._newest

    def is_expired(self, table: Table, day: date) -> bool:
        return day < self._oldest[table]
