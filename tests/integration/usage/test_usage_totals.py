"""Usage records on a real PostgreSQL: each arrives once, and totals are their sum."""

import asyncio
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from platform_app.db import migrations
from platform_app.ledger.events.event import UsageRecord
from platform_app.ledger.service import open_ledger
from platform_app.ledger.shipping import shipper as shipper_module
from platform_app.ledger.shipping.batch import batch_of
from platform_app.ledger.shipping.shipper import Shipper
from platform_app.ledger.shipping.writer import LedgerWriter
from platform_app.ledger.spool.segments import Orphans
from platform_app.ledger.spool.session import DatabaseUnavailableError
from tests.support.fakes.core import Count
from tests.support.ledger.database import connected, session_on, settings_for, waits_for_lock
from tests.support.ledger.events import access, keeping, spool_in, usage
from tests.support.ledger.usage.totals import differences, totals_are_the_sum
from tests.support.ledger.usage.varied import varied
from tests.support.ledger.versions import ADDED_BY_0007, ADDED_BY_0008, EarlierShipper

TODAY = datetime.now(UTC).date()


async def test_every_field_arrives(own_url: str, tmp_path: Path) -> None:
    full = usage(first_token_ms=120.5, attempts=3, stream=True, estimated=True, outcome="provider_timeout")
    bare = usage(cost_microusd=None)
    cost = Count("platform_usage_cost_usd_total", provider="openai", model="gpt-4o-mini")
    shipped = Count("platform_ledger_shipped_total", table="usage_records")
    async with open_ledger(settings_for(own_url, spool_dir=tmp_path)) as ledger:
        for event in (full, access(), bare):
            ledger.append(event)
    assert os.listdir(tmp_path) == []
    async with connected(own_url) as connection:
        for event in (full, bare):
            row = await connection.fetchrow("SELECT * FROM usage_records WHERE event_id = $1", event.event_id)
            found = {**row, "event_id": row["event_id"].hex, "trace_id": row["trace_id"].hex}
            assert UsageRecord(**found) == event
        assert await connection.fetchval("SELECT count(*) FROM access_decisions") == 1
    assert cost.grown == pytest.approx(27e-6)
    assert shipped.grown == 2
    await totals_are_the_sum(own_url, 2)


@pytest.mark.parametrize("column", ["requests", "cost_microusd", "duration_ms", "first_token_ms"])
async def test_total_that_is_wrong_is_found(own_url: str, column: str) -> None:
    async with session_on(own_url) as session:
        assert await Shipper(session).ship(batch_of(varied(20))) == []
    await totals_are_the_sum(own_url, 20)
    async with connected(own_url) as connection:
        await connection.execute(f"UPDATE usage_daily SET {column} = {column} + 1")
        wrong = await connection.fetchval("SELECT count(*) FROM usage_daily")
    found = await differences(own_url)
    assert len(found) == (wrong if column.endswith("_ms") else 2 * wrong)  # one more count is another row


async def test_totals_count_a_record_of_a_repeated_segment_once(own_url: str, tmp_path: Path) -> None:
    records = varied(300)
    spool = spool_in(tmp_path / "spool")
    for record in records:
        spool.append(record.line())
        spool.append(access().line())
    spool.roll()
    [segment] = (tmp_path / "spool").glob("*.seg")
    data = segment.read_bytes()
    duplicates = Count("platform_ledger_duplicates_total", table="usage_records")
    async with session_on(own_url) as session:
        orphans = Orphans(spool.directory, spool.owner)
        writer = LedgerWriter(spool, orphans, Shipper(session), keeping(90))
        for times in range(3):
            segment.write_bytes(data)  # as if the process had died between the commit and the removal
            assert await writer.ship_pending() == 1
            assert duplicates.grown == 300 * times
            await totals_are_the_sum(own_url, 300)
        # A batch that is half known: the events of a segment that was cut in two, one of them twice in itself.
        mixed = [*records[:50], *varied(50, seed=2), records[0]]
        assert await Shipper(session).ship(batch_of(mixed)) == []
        await totals_are_the_sum(own_url, 350)
    orphans.close()
    spool.close()


async def test_transaction_that_fails_adds_to_no_total(own_url: str) -> None:
    """The server goes away at the last statement before the commit, then the batch comes again."""
    records = varied(40)
    async with session_on(own_url) as session, connected(own_url) as administrator:
        shipper = Shipper(session)
        async with administrator.transaction():
            # The trigger that adds up waits for this lock, so the whole batch is inserted and not committed.
            await administrator.execute("LOCK TABLE usage_daily IN ACCESS EXCLUSIVE MODE")
            shipping = asyncio.create_task(shipper.ship(batch_of(records)))
            pid = await waits_for_lock(own_url, shipping)
            await administrator.execute("SELECT pg_terminate_backend($1, 5000)", pid)
            with pytest.raises(DatabaseUnavailableError):
                await shipping
        await totals_are_the_sum(own_url, 0)
        assert await shipper.ship(batch_of(records)) == []
        await totals_are_the_sum(own_url, 40)


async def test_lost_response_to_commit_doubles_nothing(own_url: str) -> None:
    records = varied(40)
    async with session_on(own_url) as session:
        assert await Shipper(session).ship(batch_of(records)) == []
    async with session_on(own_url) as session:  # the next process, which knows nothing of it
        assert await Shipper(session).ship(batch_of(records)) == []
    await totals_are_the_sum(own_url, 40)


async def test_writers_that_share_totals_neither_lose_nor_deadlock(
    own_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six workers, each with rows of the same totals in another order, half of the batches twice."""
    monkeypatch.setattr(shipper_module, "BATCH_SECONDS", 300.0)  # PostgreSQL ends a deadlock within a second
    batches = [varied(120, seed) for seed in range(12)]
    for seed, batch in enumerate(batches):
        random.Random(seed).shuffle(batch)

    async def work(number: int) -> None:
        async with session_on(own_url) as session:
            shipper = Shipper(session)
            for index in range(12):
                at = (index + number * 2) % 12
                if at % 6 in (number, (number + 1) % 6):
                    assert await shipper.ship(batch_of(batches[at])) == []

    failures = Count("platform_ledger_writer_failures_total")
    await asyncio.gather(*map(work, range(6)))
    assert failures.grown == 0
    await totals_are_the_sum(own_url, 12 * 120)


async def test_refused_record_is_in_no_total(own_url: str) -> None:
    good, bad = varied(20), usage(occurred_at=datetime.now(UTC) + timedelta(days=400))
    async with session_on(own_url) as session:
        assert await Shipper(session).ship(batch_of([*good[:9], bad, *good[9:]])) == [bad.line()[:-1]]
    await totals_are_the_sum(own_url, 20)


async def test_sums_of_large_numbers_do_not_overflow(own_url: str) -> None:
    largest = [usage(prompt_tokens=2**31 - 1, cost_microusd=10**12, duration_ms=1e9, attempts=32767) for _ in range(50)]
    async with session_on(own_url) as session:
        assert await Shipper(session).ship(batch_of(largest)) == []
    await totals_are_the_sum(own_url, 50)


async def test_migration_of_usage_runs_while_version_before_ships(empty_database: str) -> None:
    """Neither waits for the other: a request's and a writer's transaction are open all the time."""
    await asyncio.to_thread(migrations.upgrade, empty_database, "0002")
    async with session_on(empty_database) as session, connected(empty_database) as busy:
        before = EarlierShipper(session, "count", "provider_usage", *ADDED_BY_0007, *ADDED_BY_0008)
        await before.ship([access()])
        async with busy.transaction(), asyncio.timeout(300):
            await busy.execute("SELECT count(*) FROM access_decisions")
            await busy.execute("SELECT ledger_create_partition('access_decisions', current_date + 3)")
            await busy.execute("UPDATE api_keys SET last_used_at = now()")
            await busy.execute("INSERT INTO audit_events (actor, action, target) VALUES ('a', 'b', 'c')")
            await asyncio.to_thread(migrations.upgrade, empty_database, "0003")
            await before.ship([access(), access()])
        assert await busy.fetchval("SELECT count(*) FROM access_decisions") == 3
        await busy.execute("SELECT ledger_drop_partitions('access_decisions', current_date - 90)")
        await before.ship([access(), usage()])
    await totals_are_the_sum(empty_database, 1)


async def test_version_without_provider_usage_ships_during_upgrade(empty_database: str) -> None:
    """It loses no record, and totals stay the sum of both versions' records."""
    await asyncio.to_thread(migrations.upgrade, empty_database, "0005")
    kept = '{"prompt_tokens": 10000000000000000000}'
    async with session_on(empty_database) as session:
        before = EarlierShipper(session, "provider_usage", *ADDED_BY_0007, *ADDED_BY_0008)
        await before.ship([usage(), access()])
        await asyncio.to_thread(migrations.upgrade, empty_database, "0006")
        await before.ship([usage(), access()])
        await asyncio.to_thread(migrations.upgrade, empty_database)
        assert await Shipper(session).ship(batch_of([usage(provider_usage=kept), usage(provider_usage=None)])) == []
    async with connected(empty_database) as connection:
        rows = await connection.fetch("SELECT provider_usage FROM usage_records WHERE provider_usage IS NOT NULL")
    assert [row["provider_usage"] for row in rows] == [kept], "to the letter"
    await totals_are_the_sum(empty_database, 4)
