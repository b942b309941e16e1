"""What the runtime role may do, and what no role may."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from platform_app.auth.keys.records import Actor, KeyChanges, NewKey
from platform_app.config import load_settings
from platform_app.db import migrations
from platform_app.db.advisory_locks import AdvisoryLock
from platform_app.ledger.shipping.batch import batch_of
from platform_app.ledger.shipping.partitions import maintain
from platform_app.ledger.shipping.shipper import Shipper
from platform_app.ledger.shipping.tables import TABLES
from platform_app.resources.key_admin import open_key_admin
from platform_app.secret_store.env import EnvSecretStore
from tests.support.ledger.database import (
    ROLES,
    as_role,
    connected,
    migrate_up,
    session_on,
    set_up_roles,
    waits_for_lock,
)
from tests.support.ledger.events import access, keeping, usage

NOW = datetime.now(UTC)
"""The events' time: their partitions are of this day, also if midnight passes before a test."""
DECISIONS_OF_DAY, USAGE_OF_DAY = f"access_decisions_{NOW:%Y%m%d}", f"usage_records_{NOW:%Y%m%d}"


@pytest.fixture
def guarded_url(empty_database: str) -> str:
    """A database that was set up as deploy/roles.sql says; as the runtime role."""
    set_up_roles(empty_database)
    migrate_up(as_role(empty_database, "flowbiz_platform_owner"))
    set_up_roles(empty_database)
    set_up_roles(empty_database)
    return as_role(empty_database, "flowbiz_platform_runtime")


APPEND_ONLY = (
    *("audit_events", "access_decisions", "usage_records"),
    *(f"{table.name}_{NOW:%Y%m%d}" for table in TABLES),
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


async def test_runtime_role_adds_records_and_changes_none(guarded_url: str) -> None:
    async with session_on(guarded_url) as session, connected(guarded_url) as connection:
        assert (await maintain(session, keeping(30))).ran
        assert await Shipper(session).ship(batch_of([access(occurred_at=NOW), usage(occurred_at=NOW)])) == []
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
            f"INSERT INTO {DECISIONS_OF_DAY} SELECT * FROM access_decisions",
            f"INSERT INTO {USAGE_OF_DAY} SELECT * FROM usage_records",
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


async def test_runtime_role_can_manage_keys(guarded_url: str) -> None:
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


async def test_triggers_refuse_changes_by_the_owner(guarded_url: str) -> None:
    owner_url = guarded_url.replace("flowbiz_platform_runtime", "flowbiz_platform_owner")
    async with session_on(guarded_url) as session:
        assert await Shipper(session).ship(batch_of([access(occurred_at=NOW), usage(occurred_at=NOW)])) == []
    async with connected(owner_url) as owner:
        for table in APPEND_ONLY:
            for change in CHANGES[:4]:
                with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
                    await owner.execute(change.format(table))


async def test_database_of_one_role_is_changed_to_two(own_url: str) -> None:
    async with session_on(own_url) as session, connected(own_url) as superuser:
        await Shipper(session).ship(batch_of([access(occurred_at=NOW), usage(occurred_at=NOW)]))
        await superuser.execute(ROLES.read_text())
    runtime = as_role(own_url, "flowbiz_platform_runtime")
    async with session_on(runtime) as session, connected(runtime) as connection:
        assert await Shipper(session).ship(batch_of([access(occurred_at=NOW), usage(occurred_at=NOW)])) == []
        assert (await maintain(session, keeping(30))).ran
        assert await connection.fetchval("SELECT count(*) FROM access_decisions") == 2
        assert await connection.fetchval("SELECT requests FROM usage_daily") == 2
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"DROP TABLE {DECISIONS_OF_DAY}")


@pytest.mark.parametrize("change_rights", [migrations.grant, set_up_roles])
async def test_rights_are_changed_in_turns(own_url: str, change_rights: Callable[[str], object]) -> None:
    """PostgreSQL fails one of two that change a table's rights together (`tuple concurrently updated`)."""
    await asyncio.to_thread(set_up_roles, own_url)
    async with connected(own_url) as other, connected(own_url) as watcher:
        async with other.transaction():
            await other.execute("SELECT pg_advisory_xact_lock($1)", AdvisoryLock.MIGRATIONS)
            await other.execute("REVOKE ALL ON api_keys FROM flowbiz_platform_runtime")
            second = asyncio.create_task(asyncio.to_thread(change_rights, own_url))
            pid = await waits_for_lock(own_url, second)
            waits_for = await watcher.fetchval("SELECT wait_event FROM pg_stat_activity WHERE pid = $1", pid)
            assert waits_for == "advisory"
        await second
        granted = "SELECT has_table_privilege('flowbiz_platform_runtime', 'api_keys', 'UPDATE')"
        assert await watcher.fetchval(granted)


async def test_migrations_run_down_and_up_with_data(own_url: str) -> None:
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
