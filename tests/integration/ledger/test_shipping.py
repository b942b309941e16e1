"""Batches on a real PostgreSQL: what is stored, what is refused, and what comes again."""

import asyncio
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from platform_app.ledger import service
from platform_app.ledger.events.event import UsageRecord, decode
from platform_app.ledger.service import open_ledger
from platform_app.ledger.shipping.batch import Batch, batch_of
from platform_app.ledger.shipping.shipper import Shipper
from platform_app.ledger.shipping.writer import LedgerWriter
from platform_app.ledger.spool.maintenance import SpoolMaintenance
from platform_app.ledger.spool.segments import LINE_VERSION, Orphans, list_directory
from tests.support.fakes.core import Count
from tests.support.ledger.database import (
    connected,
    session_on,
    settings_for,
    stored_decisions,
)
from tests.support.ledger.events import access, keeping, spool_in, usage
from tests.support.ledger.versions import line_of_version_1

NOW = datetime.now(UTC)


async def test_every_field_of_a_decision_arrives(ledger_url: str, tmp_path: Path) -> None:
    full = access(client_address="2001:db8::7", duration_ms=1234.5, status=429, decision="deny", reason="rate_limited")
    bare = access(key_id=None, client_address="unix", route="unmatched", status=0)
    async with open_ledger(settings_for(ledger_url, spool_dir=tmp_path)) as ledger:
        ledger.append(full)
        ledger.append(bare)
    assert os.listdir(tmp_path) == [], "shipped at the end, and nothing left"
    [row] = await stored_decisions(ledger_url, full.event_id)
    assert row["occurred_at"] == full.occurred_at
    assert (row["event_id"].hex, row["trace_id"].hex) == (full.event_id, full.trace_id)
    assert (str(row["client_address"]), row["duration_ms"], row["status"]) == ("2001:db8::7", 1234.5, 429)
    for name in ("request_id", "key_id", "method", "route", "decision", "reason"):
        assert row[name] == getattr(full, name)
    [row] = await stored_decisions(ledger_url, bare.event_id)
    assert (row["key_id"], row["client_address"], row["status"], row["reason"]) == (None, None, 0, None)


async def test_events_arrive_while_the_service_runs(ledger_url: str, tmp_path: Path) -> None:
    async with open_ledger(settings_for(ledger_url, spool_dir=tmp_path, spool_fsync_seconds=0.1)) as ledger:
        for _ in range(2):
            event = access()
            ledger.append(event)
            async with asyncio.timeout(300):
                while not await stored_decisions(ledger_url, event.event_id):
                    await asyncio.sleep(0.05)


async def append_segments(ledger: service.SpooledLedger, count: int) -> list[str]:
    """Append one event to each of so many segments. Return the event ids."""
    events = [access() for _ in range(count)]
    for event in events:
        ledger.append(event)
        ledger._spool.roll()
    return [event.event_id for event in events]


async def test_backlog_is_shipped_within_the_grace(
    ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "FLUSH_SECONDS", 0.001)
    settings = settings_for(ledger_url, spool_dir=tmp_path)
    async with open_ledger(settings, seconds_left=lambda: 300.0) as ledger:
        event_ids = await append_segments(ledger, 40)
    assert len(await stored_decisions(ledger_url, *event_ids)) == 40
    assert list_directory(tmp_path).segments == []


async def test_backlog_without_database_stays_and_is_logged(ledger_url: str, tmp_path: Path) -> None:
    missing = ledger_url.replace("/ledger?", "/missing?")
    assert missing != ledger_url
    with capture_logs() as logs:
        async with open_ledger(settings_for(missing, spool_dir=tmp_path), seconds_left=lambda: 300.0) as ledger:
            await append_segments(ledger, 3)
    [left] = [line for line in logs if line["event"] == "ledger_spool_left"]
    assert left["bytes"] == sum(segment.size for segment in list_directory(tmp_path).segments)


async def test_segment_shipped_twice_is_stored_once(ledger_url: str, tmp_path: Path) -> None:
    """The process died between the commit and the removal, and the next one finds the events in two files."""
    spool = spool_in(tmp_path / "spool")
    events = [access() for _ in range(50)]
    for event in events:
        spool.append(event.line())
    spool.roll()
    shutil.copytree(tmp_path / "spool", tmp_path / "again")
    duplicates = Count("platform_ledger_duplicates_total", table="access_decisions")
    async with session_on(ledger_url) as session:
        orphans = Orphans(spool.directory, spool.owner)
        writer = LedgerWriter(spool, orphans, Shipper(session), keeping(90))
        assert await writer.ship_pending() == 1
        assert duplicates.grown == 0
        spool.append(access().line())

        next_spool = spool_in(tmp_path / "again")
        adopted = Orphans(next_spool.directory, next_spool.owner)
        await SpoolMaintenance(next_spool, adopted, 0).run_once()
        next_spool.append(events[0].line())
        assert await LedgerWriter(next_spool, adopted, Shipper(session), keeping(90)).ship_pending() == 2
    assert duplicates.grown == 51
    assert len(await stored_decisions(ledger_url, *(event.event_id for event in events))) == 50
    for each in (orphans, adopted, spool, next_spool):
        each.close()
    assert list_directory(tmp_path / "again").segments == []


async def test_two_writers_ship_one_batch_at_the_same_time(ledger_url: str) -> None:
    batch = batch_of([access() for _ in range(500)])
    async with session_on(ledger_url) as one, session_on(ledger_url) as two:
        await asyncio.gather(*(Shipper(session).ship(batch) for session in (one, two)))
    assert len(await stored_decisions(ledger_url, *(decode(line).event_id for line in batch.all()))) == 500


def with_damage(events: list[UsageRecord], before: bytes, after: bytes) -> tuple[Batch, list[bytes]]:
    """A batch of events of which the fourth and the last line were changed on disk; the changed lines."""
    batch = batch_of(events)
    [lines] = batch.groups.values()
    for index in (3, len(lines) - 1):
        assert before in lines[index]
        lines[index] = lines[index].replace(before, after)
    return batch, [lines[3], lines[-1]]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b',100,20,40,', b',100,20,'),  # too few values
        (b',100,20,40,', b',100,20,40,1,'),
        (b',100,20,40,', b',100,"20,40,'),  # a quote that takes the following line for a part of this one
        (b',100,20,40,', b',100,-20,40,'),
        (b',100,20,40,', b',100,20,4000000000,'),
        (b',27,', b',1000000000001,'),
        (b',27,', b',"27,'),
        (b',812.5,', b',-1,'),
        (b',812.5,', b',NaN,'),
        (b',false,100', b',maybe,100'),
        (b'"billing"', b'null'),
        (b'"billing"', b'"bill\x00ing"'),
        (b'"billing"', b'"bill\xffing"'),
        (b"T", b"Tx"),
    ],
)  # fmt: skip
async def test_damaged_lines_do_not_hold_up_others(ledger_url: str, before: bytes, after: bytes) -> None:
    """PostgreSQL refuses the batch, the lines are decoded, and those that hold an event are shipped."""
    events = [usage() for _ in range(22)]
    batch, damaged = with_damage(events, before, after)
    async with session_on(ledger_url) as session:
        assert await Shipper(session).ship(batch) == damaged
    async with connected(ledger_url) as connection:
        rows = await connection.fetch(
            "SELECT event_id FROM usage_records WHERE event_id = ANY ($1::uuid[])", [each.event_id for each in events]
        )
    assert {row["event_id"].hex for row in rows} == {each.event_id for each in [*events[:3], *events[4:-1]]}


async def test_event_that_only_the_server_refuses_is_alone(ledger_url: str) -> None:
    """decode() accepts it, so the batch is halved until the event is found."""
    good, bad = [access() for _ in range(20)], access(occurred_at=NOW + timedelta(days=400))
    async with session_on(ledger_url) as session:
        shipper = Shipper(session)
        assert await shipper.ship(batch_of([*good[:7], bad, *good[7:]])) == [bad.line()[:-1]]
        assert await shipper.ship(batch_of([])) == []
    assert len(await stored_decisions(ledger_url, *(event.event_id for event in good))) == 20


async def test_any_text_arrives_as_it_is(ledger_url: str) -> None:
    """What CSV and JSON treat in a special way is text like any other."""
    texts = [
        '"',
        "\\",
        '\\"',
        ",",
        "null",
        "\\N",
        "\\.",
        "",
        " x ",
        "[1]",
        "\u2028",
        "\U0001f600",
        "'; DROP TABLE api_keys; --",
    ]
    events = [access(request_id=text, reason=text, route=text) for text in texts]
    async with session_on(ledger_url) as session:
        assert await Shipper(session).ship(batch_of(events)) == []
    rows = await stored_decisions(ledger_url, *(event.event_id for event in events))
    stored = {row["event_id"].hex: (row["request_id"], row["reason"], row["route"]) for row in rows}
    assert stored == {event.event_id: (text, text, text) for event, text in zip(events, texts, strict=True)}


async def test_spool_of_version_1_is_shipped(ledger_url: str, tmp_path: Path) -> None:
    """After an upgrade the directory holds segments of the version before, whose lines are JSON objects."""
    events = [access(client_address="2001:db8::7"), access(key_id=None, client_address="unix")]
    data = b"".join(map(line_of_version_1, events))
    (tmp_path / "1790000000000-4711-0123abcd-000001.seg").write_bytes(data)
    (tmp_path / "1790000000001-4711-0123abcd-000002.open").write_bytes(data[:-40])  # the process was killed
    async with open_ledger(settings_for(ledger_url, spool_dir=tmp_path)):
        async with asyncio.timeout(300):
            while list_directory(tmp_path).segments:
                await asyncio.sleep(0.05)
    rows = await stored_decisions(ledger_url, *(event.event_id for event in events))
    assert [(row["event_id"].hex, row["key_id"]) for row in rows] == [(each.event_id, each.key_id) for each in events]
    assert [str(row["client_address"]) for row in rows] == ["2001:db8::7", "None"]
    [name] = [name for name in os.listdir(tmp_path) if name.endswith(".bad")]
    assert (tmp_path / name).read_bytes() == line_of_version_1(events[1])[:-40] + b"\n"


def test_segment_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    """A process of that version ships it."""
    (tmp_path / f"1790000000000-4711-0123abcd-000001.v{LINE_VERSION + 1}.seg").write_bytes(b"x\n")
    assert list_directory(tmp_path).segments == []


async def test_full_segment_is_one_transaction(ledger_url: str, tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    events = []
    while not list_directory(tmp_path).segments or not list_directory(tmp_path).segments[0].closed:
        events.append(access())
        spool.append(events[-1].line())
    async with session_on(ledger_url) as session:
        orphans = Orphans(tmp_path, spool.owner)
        assert await LedgerWriter(spool, orphans, Shipper(session), keeping(90)).ship_pending() == 1
        transactions = {row["xmin"] for row in await _xmins(ledger_url, events[0].event_id, events[-1].event_id)}
    assert len(transactions) == 1
    assert len(await stored_decisions(ledger_url, *(event.event_id for event in events))) == len(events) > 2000
    orphans.close()
    spool.close()


async def _xmins(url: str, *event_ids: str) -> list[asyncpg.Record]:
    async with connected(url) as connection:
        rows: list[asyncpg.Record] = await connection.fetch(
            "SELECT xmin::text FROM access_decisions WHERE event_id = ANY ($1::uuid[])", list(event_ids)
        )
        return rows


async def test_partition_dropped_meanwhile_is_made_again(own_url: str) -> None:
    async with session_on(own_url) as session, connected(own_url) as owner:
        shipper = Shipper(session)
        event = access()
        assert await shipper.ship(batch_of([event])) == []
        await owner.execute(f"DROP TABLE access_decisions_{event.occurred_at:%Y%m%d}")
        assert await shipper.ship(batch_of([access(occurred_at=event.occurred_at)])) == []
        assert await owner.fetchval("SELECT count(*) FROM access_decisions") == 1
