"""Migration 0008 on a database with data, while the version before ships, and lines of that version afterwards."""

import asyncio

import orjson

from platform_app.db import migrations
from platform_app.ledger.events.event import LedgerEvent
from platform_app.ledger.shipping.batch import batch_of, parse
from platform_app.ledger.shipping.shipper import Shipper
from tests.support.ledger.database import connected, session_on
from tests.support.ledger.events import keeping, usage
from tests.support.ledger.versions import ADDED_BY_0008, EarlierShipper

ROWS = "SELECT session, requested_model FROM usage_records ORDER BY session NULLS FIRST"


def line_of_version_3(event: LedgerEvent) -> bytes:
    """Return a usage record's line as versions before migration 0008 wrote it."""
    return orjson.dumps(orjson.loads(event.line())[: -len(ADDED_BY_0008)]) + b"\n"


async def test_version_before_sessions_ships_during_upgrade(empty_database: str) -> None:
    """Its rows and its lines have nulls; its records stay when the migration is undone."""
    await asyncio.to_thread(migrations.upgrade, empty_database, "0007")
    async with session_on(empty_database) as session, connected(empty_database) as connection:
        before = EarlierShipper(session, *ADDED_BY_0008)
        await before.ship([usage()])
        await asyncio.to_thread(migrations.upgrade, empty_database, "0008")
        await before.ship([usage()])
        spooled = await parse(line_of_version_3(usage()), keeping(30), current=False)
        assert await Shipper(session).ship(spooled.batch) == []
        assert await Shipper(session).ship(batch_of([usage(session="s-1", requested_model="fast")])) == []
        rows = [tuple(row) for row in await connection.fetch(ROWS)]
        assert rows == [(None, None), (None, None), (None, None), ("s-1", "fast")]
        await asyncio.to_thread(migrations.downgrade, empty_database, "0007")
        await before.ship([usage()])
        assert await connection.fetchval("SELECT count(*) FROM usage_records") == 5
