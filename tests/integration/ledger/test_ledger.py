"""The ledger on a real PostgreSQL: shipping, partitions, roles, migrations."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from platform_app.auth.keys.records import Actor, KeyChanges, NewKey
from platform_app.config import Settings, load_settings
from platform_app.db import migrations
from platform_app.db.advisory_locks import AdvisoryLock
from platform_app.ledger.service import open_ledger
from platform_app.ledger.shipping.batch import batch_of
from platform_app.ledger.shipping.partitions import DAYS_AHEAD, MaintenanceReport, maintain
from platform_app.ledger.shipping.shipper import Shipper
from platform_app.ledger.shipping.tables import ACCESS_DECISIONS, TABLES, USAGE_RECORDS
from platform_app.ledger.shipping.writer import LedgerWriter
from platform_app.ledger.spool.maintenance import SpoolMaintenance
from platform_app.ledger.spool.segments import Orphans, list_directory
from platform_app.ledger.spool.session import DatabaseUnavailableError, LedgerSession, make_ledger_engine
from platform_app.resources import open_key_admin
from platform_app.secret_store.env import EnvSecretStore
from tests.support.fakes.core import Count
from tests.support.gateway.http import until
from tests.support.gateway.ledger_events import access, keeping, spool_in, usage
from tests.support.paths import ROOT
from tests.support.timing.apart import run_apart
from tests.support.timing.responsive_time import responsive_time

ROLES = ROOT / "deploy" / "roles.sql"
NOW = datetime.now(UTC)
TODAY = NOW.date()


def settings_for(url: str, **fields: Any) -> Settings:
    return load_settings(database_url=url, redis_url="redis://127.0.0.1:1/0", **fields)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def session_on(url: str) -> AsyncIterator[LedgerSession]:
    engine = make_ledger_engine(settings_for(url))
    session = LedgerSession(engine)
    try:
        yield session
    finally:
        await session.aclose()
        await engine.dispose()


@pytest.fixture(scope="module")
def ledger_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database at head for this module's events."""
    postgres.create_database("ledger")
    url = postgres.url("ledger")
    run_apart(lambda: asyncio.to_thread(migrations.upgrade, url))
    yield url
    postgres.drop_database("ledger")


@pytest.fixture
def own_url(empty_database: str) -> str:
    """A database at head for one test."""
    migrations_up(empty_database)
    return empty_database


def migrations_up(url: str) -> None:
    run_apart(lambda: asyncio.to_thread(migrations.upgrade, url))


async def stored(url: str, *event_ids: str) -> list[asyncpg.Record]:
    async with connected(url) as connection:
        rows: list[asyncpg.Record] = await connection.fetch(
            "SELECT * FROM access_decisions WHERE event_id = ANY ($1::uuid[]) ORDER BY occurred_at", list(event_ids)
        )
        return rows


async def test_every_field_arrives(ledger_url: str, tmp_path: Path) -> None:
    full = access(client_address="2001:db8::7", duration_ms=1234.5, status=429, decision="deny", reason="rate_limited")
    bare = access(key_id=None, client_address="unix", route="unmatched", status=0)
    async with open_ledger(settings_for(ledger_url, spool_dir=tmp_path)) as ledger:
        ledger.append(full)
        ledger.append(bare)
    assert os.listdir(tmp_path) == [], "shipped at the end, and nothing left"
    [row] = await stored(ledger_url, full.event_id)
    assert row["occurred_at"] == full.occurred_at
    assert (row["event_id"].hex, row["trace_id"].hex) == (full.event_id, full.trace_id)
    assert (str(row["client_address"]), row["duration_ms"], row["status"]) == ("2001:db8::7", 1234.5, 429)
    for name in ("request_id", "key_id", "method", "route", "decision", "reason"):
        assert row[name] == getattr(full, name)
    [row] = await stored(ledger_url, bare.event_id)
    assert (row["key_id"], row["client_address"], row["status"], row["reason"]) == (None, None, 0, None)


async def test_events_arrive_while_the_service_runs(ledger_url: str, tmp_path: Path) -> None:
    async with open_ledger(settings_for(ledger_url, spool_dir=tmp_path, spool_fsync_seconds=0.1)) as ledger:
        for _ in range(2):
            event = access()
            ledger.append(event)
            async with asyncio.timeout(300):
                while not await stored(ledger_url, event.event_id):
                    await asyncio.sleep(0.05)


async def test_a_segment_may_come_again(ledger_url: str, tmp_path: Path) -> None:
    """A crash between the commit and the removal of the file; and the next worker has it twice, as two files."""
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
        await SpoolMaintenance(next_spool, adopted, 0).keep()
        next_spool.append(events[0].line())
        assert await LedgerWriter(next_spool, adopted, Shipper(session), keeping(90)).ship_pending() == 2
    assert duplicates.grown == 51
    assert len(await stored(ledger_url, *(event.event_id for event in events))) == 50
    for each in (orphans, adopted, spool, next_spool):
        each.close()
    assert list_directory(tmp_path / "again").segments == []


async def test_two_writers_may_ship_the_same_batch_at_once(ledger_url: str) -> None:
    batch = batch_of([access() for _ in range(500)])
    async with session_on(ledger_url) as one, session_on(ledger_url) as two:
        await asyncio.gather(*(Shipper(session).ship(batch) for session in (one, two) for _ in range(1)))
    assert len(await stored(ledger_url, *(event.event_id for event in batch.all()))) == 500


async def test_one_event_that_the_server_refuses_does_not_hold_up_the_others(ledger_url: str) -> None:
    good = [access() for _ in range(20)]
    bad = [
        replace(access(), request_id="a\x00b"),  # refused by the server
        replace(access(), status=70_000),  # refused by the driver
        replace(access(), decision="maybe"),  # refused by a constraint
    ]
    async with session_on(ledger_url) as session:
        shipper = Shipper(session)
        refused = await shipper.ship(batch_of([bad[0], *good[:7], bad[1], *good[7:], bad[2]]))
        assert [event.event_id for event in refused] == [event.event_id for event in bad]
        assert await shipper.ship(batch_of([])) == []
    assert len(await stored(ledger_url, *(event.event_id for event in good))) == 20


async def test_a_full_segment_is_shipped_in_one_transaction(ledger_url: str, tmp_path: Path) -> None:
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
    assert len(await stored(ledger_url, *(event.event_id for event in events))) == len(events) > 2000
    orphans.close()
    spool.close()


async def _xmins(url: str, *event_ids: str) -> list[asyncpg.Record]:
    async with connected(url) as connection:
        rows: list[asyncpg.Record] = await connection.fetch(
            "SELECT xmin::text FROM access_decisions WHERE event_id = ANY ($1::uuid[])", list(event_ids)
        )
        return rows


async def test_a_partition_that_was_dropped_meanwhile_is_made_again(own_url: str) -> None:
    async with session_on(own_url) as session, connected(own_url) as owner:
        shipper = Shipper(session)
        assert await shipper.ship(batch_of([access()])) == []
        await owner.execute(f"DROP TABLE access_decisions_{TODAY:%Y%m%d}")
        assert await shipper.ship(batch_of([access()])) == []
        assert await owner.fetchval("SELECT count(*) FROM access_decisions") == 1


async def test_a_deadline_cuts_the_connection_and_the_next_use_has_a_new_one(ledger_url: str) -> None:
    async with session_on(ledger_url) as session:
        async with session.use(60) as driver:
            before = await driver.fetchval("SELECT pg_backend_pid()")
        async with responsive_time() as spent:
            with pytest.raises(DatabaseUnavailableError):
                async with session.use(0.2) as driver:
                    await driver.execute("SELECT pg_sleep(30)")
        assert spent.seconds < 2
        async with session.use(60) as driver:
            assert await driver.fetchval("SELECT pg_backend_pid()") != before


async def test_a_session_that_an_administrator_ended_is_replaced(ledger_url: str) -> None:
    event = access()
    async with session_on(ledger_url) as session, connected(ledger_url) as administrator:
        async with session.use(60) as driver:
            pid = await driver.fetchval("SELECT pg_backend_pid()")
        await administrator.execute("SELECT pg_terminate_backend($1, 5000)", pid)
        shipper = Shipper(session)
        for _ in range(2):
            try:
                await shipper.ship(batch_of([event]))
            except DatabaseUnavailableError:
                continue
    assert len(await stored(ledger_url, event.event_id)) == 1


async def test_a_database_that_is_not_there_delays_neither_start_nor_end(tmp_path: Path) -> None:
    settings = settings_for("postgresql://nobody@127.0.0.1:1/none", spool_dir=tmp_path)
    async with responsive_time() as spent, open_ledger(settings) as ledger:
        ledger.append(access())
        await asyncio.sleep(0.1)
    assert spent.seconds < 5
    assert len(list_directory(tmp_path).segments) == 1


async def test_a_database_that_takes_connections_and_says_nothing_delays_the_end_by_two_seconds(tmp_path: Path) -> None:
    connections = []
    frozen = await asyncio.start_server(lambda _, writer: connections.append(writer), "127.0.0.1", 0)
    port = frozen.sockets[0].getsockname()[1]
    try:
        settings = settings_for(f"postgresql://x@127.0.0.1:{port}/x", spool_dir=tmp_path)
        async with responsive_time() as spent, open_ledger(settings) as ledger:
            ledger.append(access())
            await until(lambda: bool(connections))
            opened = spent.seconds
        assert spent.seconds - opened < 5
        assert len(list_directory(tmp_path).segments) == 1
    finally:
        for writer in connections:
            writer.close()
        frozen.close()
        await frozen.wait_closed()


# Partitions


async def _partitions(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent IN "
        "('access_decisions'::regclass, 'usage_records'::regclass) ORDER BY name"
    )
    return [row["name"] for row in rows]


def _name(day: date, table: str = "access_decisions") -> str:
    return f"{table}_{day:%Y%m%d}"


async def test_maintenance_makes_days_ahead_and_drops_days_past_retention(own_url: str) -> None:
    days = [TODAY + timedelta(days=ahead) for ahead in range(DAYS_AHEAD + 1)]
    coming = [_name(day, table.name) for table in TABLES for day in days]
    old = [TODAY - timedelta(days=days) for days in (200, 31, 30)]
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


async def test_one_of_several_processes_does_the_maintenance(own_url: str) -> None:
    async with session_on(own_url) as one, session_on(own_url) as two:
        reports = await asyncio.gather(maintain(one, keeping(30)), maintain(two, keeping(30)))
        assert sum(len(report.created) for report in reports) == (DAYS_AHEAD + 1) * len(TABLES)
        async with connected(own_url) as holder, holder.transaction():
            await holder.execute("SELECT pg_advisory_xact_lock($1)", AdvisoryLock.PARTITION_MAINTENANCE)
            assert await maintain(one, keeping(30)) == MaintenanceReport(ran=False)
        assert (await maintain(one, keeping(30))).ran


async def test_writers_that_need_the_same_new_day_do_not_collide(own_url: str) -> None:
    async with session_on(own_url) as one, session_on(own_url) as two, session_on(own_url) as three:
        outcomes = await asyncio.gather(*(Shipper(each).ship(batch_of([access()])) for each in (one, two, three)))
    assert outcomes == [[], [], []]


async def test_a_new_day_is_made_while_others_read_and_write(own_url: str) -> None:
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
async def test_the_functions_check_what_they_are_asked(ledger_url: str, call: str) -> None:
    async with connected(ledger_url) as connection:
        with pytest.raises(asyncpg.InvalidParameterValueError):
            await connection.execute(f"SELECT {call}")


# Roles


def as_role(url: str, role: str) -> str:
    return url.replace("//postgres@", f"//{role}@")


@pytest.fixture
def guarded_url(empty_database: str) -> str:
    """A database that was set up as deploy/roles.sql says; as the runtime role."""

    async def run_roles() -> None:
        async with connected(empty_database) as connection:
            await connection.execute(ROLES.read_text())

    run_apart(run_roles)
    migrations_up(as_role(empty_database, "flowbiz_platform_owner"))
    run_apart(run_roles)
    run_apart(run_roles)
    return as_role(empty_database, "flowbiz_platform_runtime")


APPEND_ONLY = (
    *("audit_events", "access_decisions", "usage_records"),
    *(f"{table.name}_{TODAY:%Y%m%d}" for table in TABLES),
)
CHANGES = [
    "UPDATE {} SET request_id = 'x'",
    "DELETE FROM {}",
    "DELETE FROM {} WHERE false",
    "TRUNCATE {}",
    "DROP TABLE {}",
    "ALTER TABLE {} DISABLE TRIGGER ALL",
    "DROP TRIGGER append_only ON {}",
]


async def test_the_runtime_role_adds_records_and_changes_none(guarded_url: str) -> None:
    async with session_on(guarded_url) as session, connected(guarded_url) as connection:
        assert (await maintain(session, keeping(30))).ran
        assert await Shipper(session).ship(batch_of([access(), usage()])) == []
        await connection.execute("INSERT INTO audit_events (actor, action, target) VALUES ('a', 'b', 'c')")
        for table in APPEND_ONLY:
            for change in CHANGES:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(change.format(table))
        for statement in (
            "CREATE TABLE mine (a int)",
            "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            "SET session_replication_role = replica",
            "SET ROLE flowbiz_platform_owner",
            "UPDATE alembic_version SET version_num = 'x'",
            "DELETE FROM api_keys",
            f"INSERT INTO {_name(TODAY)} SELECT * FROM access_decisions",
            f"INSERT INTO {_name(TODAY, 'usage_records')} SELECT * FROM usage_records",
            "INSERT INTO usage_daily SELECT * FROM usage_daily",
            "UPDATE usage_daily SET cost_microusd = 0",
            "DELETE FROM usage_daily",
            "TRUNCATE usage_daily",
            "DROP TABLE usage_daily",
            "SELECT usage_add_up()",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        assert await connection.fetchval("SELECT count(*) FROM audit_events") == 1
        assert await connection.fetchval("SELECT count(*) FROM access_decisions") == 1
        assert await connection.fetchval("SELECT requests FROM usage_daily") == 1
        assert await connection.fetchval("SELECT version_num FROM alembic_version") == migrations.head_revision()


async def test_the_runtime_role_can_do_all_that_keys_need(guarded_url: str) -> None:
    settings = load_settings(database_url=guarded_url, redis_url="redis://127.0.0.1:1/0")
    secrets = EnvSecretStore({"PLATFORM_API_KEY_PEPPER": "1:" + "5a" * 32})
    actor = Actor("tests")
    async with open_key_admin(settings, secrets) as admin:
        peppers = await admin.peppers.current()
        first, _ = await admin.lifecycle.bootstrap(NewKey("first", "tests", [], "test"), peppers, actor)
        record, _ = await admin.lifecycle.create(NewKey("a", "tests", ["platform:chat"], "test"), peppers, actor)
        for grace in (60, 60, 0):
            await admin.lifecycle.rotate(record.key_id, grace, peppers, actor)
        await admin.lifecycle.update(record.key_id, KeyChanges(owner="others"), actor)
        stored = await admin.keys.lookup(record.key_id)
        assert stored is not None
        await admin.keys.rehash(stored.secrets[0].digest, bytes(32), 2)
        await admin.lifecycle.revoke(record.key_id, "done", actor)
        assert [key.key_id for key in (await admin.keys.list(only_owner=None)).keys] == [record.key_id, first.key_id]
        assert await admin.keys.secrets_by_pepper() == {1: 1}
    async with session_on(guarded_url) as session:
        assert await Shipper(session).ship(batch_of([access(key_id=first.key_id)])) == []


async def test_even_the_owner_is_stopped_by_triggers(guarded_url: str) -> None:
    owner_url = guarded_url.replace("flowbiz_platform_runtime", "flowbiz_platform_owner")
    async with session_on(guarded_url) as session:
        assert await Shipper(session).ship(batch_of([access(), usage()])) == []
    async with connected(owner_url) as owner:
        for table in APPEND_ONLY:
            for change in CHANGES[:4]:
                with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
                    await owner.execute(change.format(table))


async def test_a_database_of_a_single_role_goes_over_to_two(own_url: str) -> None:
    async with session_on(own_url) as session, connected(own_url) as superuser:
        await Shipper(session).ship(batch_of([access(), usage()]))
        await superuser.execute(ROLES.read_text())
    runtime = as_role(own_url, "flowbiz_platform_runtime")
    async with session_on(runtime) as session, connected(runtime) as connection:
        assert await Shipper(session).ship(batch_of([access(), usage()])) == []
        assert (await maintain(session, keeping(30))).ran
        assert await connection.fetchval("SELECT count(*) FROM access_decisions") == 2
        assert await connection.fetchval("SELECT requests FROM usage_daily") == 2
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"DROP TABLE {_name(TODAY)}")


# Migrations


async def test_migrations_go_up_down_and_up_again_with_data_in_the_tables(own_url: str) -> None:
    async with session_on(own_url) as session, connected(own_url) as connection:
        await maintain(session, keeping(30))
        earlier = datetime.now(UTC) - timedelta(days=3)
        await Shipper(session).ship(
            batch_of([make(occurred_at=at) for make in (access, usage) for at in (earlier, NOW)])
        )
        await connection.execute("INSERT INTO audit_events (actor, action, target) VALUES ('a', 'b', 'c')")
    await asyncio.to_thread(migrations.downgrade, own_url, "0001")
    async with connected(own_url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM pg_class WHERE relname LIKE 'access_decisions%'") == 0
        assert await connection.fetchval("SELECT count(*) FROM pg_class WHERE relname ~ '^usage_(records|daily)'") == 0
        assert await connection.fetchval("SELECT count(*) FROM pg_proc WHERE proname ~ '^(ledger|usage)'") == 0
        assert await connection.fetchval("SELECT count(*) FROM audit_events") == 1
    await asyncio.to_thread(migrations.upgrade, own_url)
    async with session_on(own_url) as session, connected(own_url) as connection:
        assert await Shipper(session).ship(batch_of([access()])) == []
        assert await connection.fetchval("SELECT count(*) FROM access_decisions") == 1
    await asyncio.to_thread(migrations.downgrade, own_url, "base")
    await asyncio.to_thread(migrations.upgrade, own_url)
