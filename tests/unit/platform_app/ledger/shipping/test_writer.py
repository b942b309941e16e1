"""The writer with a scripted shipper."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from platform_app.ledger.events.event import LedgerEvent, decode
from platform_app.ledger.shipping.batch import Batch
from platform_app.ledger.shipping.shipper import Shipper
from platform_app.ledger.shipping.writer import LedgerWriter
from platform_app.ledger.spool.maintenance import SpoolMaintenance
from platform_app.ledger.spool.segments import ASIDE, Orphans, list_directory
from platform_app.ledger.spool.session import DatabaseUnavailableError
from platform_app.ledger.spool.spool import Spool
from tests.support.fakes.core import Count
from tests.support.ledger.events import access, is_failing, keeping, spool_in


@dataclass
class FakeShipper:
    shipped: list[LedgerEvent] = field(default_factory=list)
    down: bool = False
    refuses: list[LedgerEvent] = field(default_factory=list)

    async def ship(self, batch: Batch) -> list[bytes]:
        if self.down:
            raise DatabaseUnavailableError("ConnectionRefusedError")
        refused = [event.line()[:-1] for event in self.refuses]
        self.shipped += [decode(line) for line in batch.all() if line not in refused]
        return [line for line in batch.all() if line in refused]


@dataclass
class Parts:
    spool: Spool
    orphans: Orphans
    shipper: FakeShipper
    writer: LedgerWriter
    maintenance: SpoolMaintenance


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    spool = spool_in(tmp_path)
    orphans, shipper = Orphans(tmp_path, spool.owner), FakeShipper()
    writer = LedgerWriter(spool, orphans, cast(Shipper, shipper), keeping(90))
    yield Parts(spool, orphans, shipper, writer, SpoolMaintenance(spool, orphans, 0))
    orphans.close()
    spool.close()


async def test_shipped_segment_is_removed(parts: Parts) -> None:
    events = [access() for _ in range(3)]
    for event in events:
        parts.spool.append(event.line())
    await parts.writer.ship_pending()
    assert parts.shipper.shipped == events
    assert list_directory(parts.spool.directory).segments == []
    assert await parts.writer.ship_pending() == 0


async def test_segment_that_was_not_shipped_stays(parts: Parts) -> None:
    event = access()
    parts.spool.append(event.line())
    parts.shipper.down = True
    for _ in range(3):
        with pytest.raises(DatabaseUnavailableError):
            await parts.writer.ship_pending()
    assert len(list_directory(parts.spool.directory).segments) == 1
    parts.shipper.down = False
    await parts.writer.ship_pending()
    assert parts.shipper.shipped == [event]


async def test_bad_lines_do_not_hold_up_others(parts: Parts) -> None:
    good, refused = access(), access()
    parts.shipper.refuses = [refused]
    counts = {
        reason: Count("platform_ledger_bad_lines_total", reason=reason) for reason in ("undecodable", "refused", "torn")
    }
    for data in (b"not an event\n", good.line(), refused.line(), b'{"kind": "acc'):
        parts.spool.append(data)
    await parts.writer.ship_pending()
    assert parts.shipper.shipped == [good]
    [aside] = parts.spool.directory.glob(f"*{ASIDE}")
    assert aside.read_bytes() == b"not an event\n" + refused.line() + b'{"kind": "acc\n'
    assert {reason: count.grown for reason, count in counts.items()} == {"undecodable": 1, "refused": 1, "torn": 1}
    assert list_directory(parts.spool.directory).segments == []


async def test_expired_events_are_counted_and_dropped(parts: Parts) -> None:
    expired = Count("platform_ledger_dropped_total", reason="expired")
    parts.spool.append(access(occurred_at=datetime.now(UTC) - timedelta(days=92)).line())
    await parts.writer.ship_pending()
    assert expired.grown == 1
    assert parts.shipper.shipped == []
    assert list_directory(parts.spool.directory).segments == []


async def test_oldest_segments_of_all_owners_go_first(parts: Parts) -> None:
    dead = spool_in(parts.spool.directory)
    first, second = access(), access()
    dead.append(first.line())
    os.close(dead._lock)
    await parts.maintenance.run_once()
    await asyncio.sleep(0.002)  # so that no two segments are of the same millisecond
    parts.spool.append(second.line())
    await parts.writer.ship_pending()
    assert parts.shipper.shipped == [first, second]
    listing = list_directory(parts.spool.directory)
    parts.orphans.adopt(listing)
    assert list_directory(parts.spool.directory).owners == {parts.spool.owner}


async def test_events_of_an_outage_are_shipped_after_it(parts: Parts) -> None:
    failures = Count("platform_ledger_writer_failures_total")
    parts.shipper.down = True
    parts.spool.append(access().line())
    parts.writer.stop()
    await parts.writer.run()
    assert failures.grown == 1
    parts.shipper.down = False
    parts.writer.stop()
    await parts.writer.run()
    assert len(parts.shipper.shipped) == 1


async def test_maintenance_drops_oldest_segments_and_counts_lines(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, max_bytes=3000, policy="drop_oldest", segment_bytes=1000)
    orphans = Orphans(tmp_path, spool.owner)
    maintenance = SpoolMaintenance(spool, orphans, 0)
    dropped = Count("platform_ledger_dropped_total", reason="spool_full")
    for _ in range(30):
        spool.append(access().line())
    before = sum(segment.path.read_bytes().count(b"\n") for segment in list_directory(tmp_path).segments)
    await maintenance.run_once()
    await maintenance.run_once()
    left = list_directory(tmp_path)
    assert left.size <= 3000
    assert before == 30
    assert dropped.grown == 30 - sum(segment.path.read_bytes().count(b"\n") for segment in left.segments) > 10
    orphans.close()
    spool.close()


async def test_maintenance_writes_lines_that_the_disk_refused(parts: Parts) -> None:
    directory = parts.spool.directory
    moved = directory.rename(directory.with_name("moved"))
    line = access().line()
    parts.spool.append(line)
    assert is_failing(parts.spool)
    moved.rename(directory)
    await parts.maintenance.run_once()
    assert not is_failing(parts.spool)
    assert parts.spool.size == len(line)
