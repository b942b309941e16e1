"""Migration 0007 on a database with partitions and data, while the version before ships."""

import asyncio

import asyncpg
import pytest

from platform_app.db import migrations
from tests.support.ledger.database import connected, session_on
from tests.support.ledger.events import access, usage
from tests.support.ledger.versions import ADDED_BY_0007, ADDED_BY_0008, EarlierShipper

INDEXES = ("ix_access_decisions_request_id", "ix_usage_records_request_id", "ix_usage_records_trace_id")
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)"
PARTS = "SELECT count(*) FROM pg_inherits WHERE inhparent = to_regclass($1)"


async def indexes_of(connection: asyncpg.Connection) -> list[tuple[bool, int]]:
    """Whether each index is valid, and how many partitions it has."""
    return [(await connection.fetchval(VALID, name), await connection.fetchval(PARTS, name)) for name in INDEXES]


async def test_version_before_requests_ships_during_upgrade(empty_database: str) -> None:
    """Its rows have nulls; rows of both versions are kept when the migration is undone."""
    await asyncio.to_thread(migrations.upgrade, empty_database, "0006")
    async with session_on(empty_database) as session, connected(empty_database) as connection:
        before = EarlierShipper(session, *ADDED_BY_0007, *ADDED_BY_0008)
        await before.ship([usage(), access()])
        await asyncio.to_thread(migrations.upgrade, empty_database, "0007")
        await before.ship([usage(), access()])
        await EarlierShipper(session, *ADDED_BY_0008).ship([usage(), access(attempts='[["openai"]]')])
        await connection.execute("SELECT ledger_create_partition('access_decisions', current_date + 3)")
        assert await indexes_of(connection) == [(True, 2), (True, 1), (True, 1)]
        rows = await connection.fetch("SELECT owner, attempts FROM access_decisions WHERE owner IS NOT NULL")
        assert [tuple(row) for row in rows] == [("billing", '[["openai"]]')]
        await asyncio.to_thread(migrations.downgrade, empty_database, "0006")
        await before.ship([usage(), access()])
        assert await connection.fetchval("SELECT count(*) FROM access_decisions") == 4
        await asyncio.to_thread(migrations.upgrade, empty_database, "0007")
        assert await connection.fetchval("SELECT count(*) FROM usage_records WHERE upstream_request_id IS NULL") == 4
        assert await indexes_of(connection) == [(True, 2), (True, 1), (True, 1)]


async def test_migration_continues_after_an_interrupted_index(empty_database: str) -> None:
    """The columns and the parent's indexes are committed first; an invalid index of a partition is built again."""
    await asyncio.to_thread(migrations.upgrade, empty_database, "0006")
    async with session_on(empty_database) as session, connected(empty_database) as connection:
        await EarlierShipper(session, *ADDED_BY_0007, *ADDED_BY_0008).ship([usage(), access()])
        partition = await connection.fetchval("SELECT tableoid::regclass::text FROM access_decisions")
        await connection.execute("ALTER TABLE access_decisions ADD COLUMN owner text")
        await connection.execute("CREATE INDEX ix_access_decisions_request_id ON ONLY access_decisions (request_id)")
        await connection.execute(f"CREATE INDEX {partition}_request_id_idx ON {partition} (request_id)")
        await asyncio.to_thread(migrations.upgrade, empty_database, "0007")
        assert [valid for valid, _ in await indexes_of(connection)] == [True] * 3


async def test_migration_behind_a_long_reader_changes_nothing(empty_database: str) -> None:
    await asyncio.to_thread(migrations.upgrade, empty_database, "0006")
    async with connected(empty_database) as reader, reader.transaction():
        await reader.fetchval("SELECT count(*) FROM access_decisions")
        with pytest.raises(Exception, match="lock timeout"):
            await asyncio.to_thread(migrations.upgrade, empty_database, "0007")
        assert await reader.fetchval("SELECT version_num FROM alembic_version") == "0006"
    await asyncio.to_thread(migrations.upgrade, empty_database, "0007")
