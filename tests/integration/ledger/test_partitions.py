"""Daily partitions: made ahead, dropped after the retention, by functions that check their arguments."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest

from platform_app.db.advisory_locks import AdvisoryLock
from platform_app.ledger.shipping.batch import batch_of
from platform_app.ledger.shipping.partitions import DAYS_AHEAD, MaintenanceReport, maintain
from platform_app.ledger.shipping.shipper import Shipper
from platform_app.ledger.shipping.tables import ACCESS_DECISIONS, TABLES, USAGE_RECORDS
from tests.support.ledger.database import (
    connected,
    session_on,
)
from tests.support.ledger.events import access, keeping, usage


async def _partitions(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent IN "
        "('access_decisions'::regclass, 'usage_records'::regclass) ORDER BY name"
    )
    return [row["name"] for row in rows]


def _name(day: date, table: str = "access_decisions") -> str:
    return f"{table}_{day:%Y%m%d}"


async def test_maintenance_makes_coming_days_and_drops_expired_days(own_url: str) -> None:
    today = datetime.now(UTC).date()
    days = [today + timedelta(days=ahead) for ahead in range(DAYS_AHEAD + 1)]
    coming = [_name(day, table.name) for table in TABLES for day in days]
    old = [today - timedelta(days=days) for days in (200, 31, 30)]
    async with session_on(own_url) as session, connected(own_url) as connection:
        assert await maintain(session, keeping(30)) == MaintenanceReport(True, tuple(coming), ())
        assert await maintain(session, keeping(30)) == MaintenanceReport(True, (), ())
        times = [datetime(day.year, day.month, day.day, 23, 59, tzinfo=UTC) for day in old]
        events = [make(occurred_at=at) for make in (access, usage) for at in times]
        assert await Shipper(session).ship(batch_of(events)) == []
        retention = {ACCESS_DECISIONS: 30, USAGE_RECORDS: 100}
        dropped = (_name(old[0]), _name(old[1]), _name(old[0], "usage_records"))
        assert await maintain(session, retention) == MaintenanceReport(True, (), dropped)
        left = [_name(old[2]), *(_name(day, "usage_records") for day in old[1:])]
        assert await _partitions(connection) == sorted([*left, *coming])
        assert await connection.fetchval("SELECT count(*) FROM access_decisions") == 1
        assert await connection.fetchval("SELECT count(*) FROM usage_records") == 2
        totals = await connection.fetch("SELECT day FROM usage_daily ORDER BY day")
        assert [row["day"] for row in totals] == old[1:], "totals end with their records"


async def test_only_one_process_does_the_maintenance(own_url: str) -> None:
    async with session_on(own_url) as one, session_on(own_url) as two:
        reports = await asyncio.gather(maintain(one, keeping(30)), maintain(two, keeping(30)))
        assert sum(len(report.created) for report in reports) == (DAYS_AHEAD + 1) * len(TABLES)
        async with connected(own_url) as holder, holder.transaction():
            await holder.execute("SELECT pg_advisory_xact_lock($1)", AdvisoryLock.PARTITION_MAINTENANCE)
            assert await maintain(one, keeping(30)) == MaintenanceReport(ran=False)
        assert (await maintain(one, keeping(30))).ran


async def test_writers_that_need_the_same_day_do_not_collide(own_url: str) -> None:
    async with session_on(own_url) as one, session_on(own_url) as two, session_on(own_url) as three:
        outcomes = await asyncio.gather(*(Shipper(each).ship(batch_of([access()])) for each in (one, two, three)))
    assert outcomes == [[], [], []]


async def test_day_is_made_while_others_read_and_write(own_url: str) -> None:
    async with session_on(own_url) as session, connected(own_url) as reader:
        await Shipper(session).ship(batch_of([access()]))
        async with reader.transaction():
            await reader.fetchval("SELECT count(*) FROM access_decisions")
            async with asyncio.timeout(300):
                report = await maintain(session, keeping(30))
    assert len(report.created) == (DAYS_AHEAD + 1) * len(TABLES) - 1


@pytest.mark.parametrize(
    "call",
    [
        "ledger_create_partition('audit_events', current_date)",
        "ledger_create_partition('access_decisions; DROP TABLE api_keys', current_date)",
        "ledger_create_partition(NULL, current_date)",
        "ledger_create_partition('access_decisions', NULL)",
        "ledger_create_partition('access_decisions', current_date + 40)",
        "ledger_create_partition('access_decisions', date '1990-01-01')",
        "ledger_drop_partitions('access_decisions', current_date)",
        "ledger_drop_partitions('access_decisions', date 'infinity')",
        "ledger_drop_partitions('access_decisions', NULL)",
        "ledger_drop_partitions('api_keys', current_date - 100)",
        "ledger_create_partition('usage_daily', current_date)",
        "ledger_drop_partitions('usage_records', current_date)",
        "usage_drop_totals(current_date)",
        "usage_drop_totals(NULL)",
    ],
)
async def test_partition_functions_check_their_arguments(ledger_url: str, call: str) -> None:
    async with connected(ledger_url) as connection:
        with pytest.raises(asyncpg.InvalidParameterValueError):
            await connection.execute(f"SELECT {call}")
