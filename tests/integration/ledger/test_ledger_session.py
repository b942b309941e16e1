"""The ledger's connection: deadlines, and databases that are down or frozen."""

import asyncio
from pathlib import Path

import pytest

from platform_app.ledger.service import open_ledger
from platform_app.ledger.shipping.batch import batch_of
from platform_app.ledger.shipping.shipper import Shipper
from platform_app.ledger.spool.segments import list_directory
from platform_app.ledger.spool.session import DatabaseUnavailableError
from tests.support.gateway.http import until
from tests.support.ledger.database import (
    connected,
    session_on,
    settings_for,
    stored_decisions,
)
from tests.support.ledger.events import access


async def test_deadline_cuts_the_connection_and_next_use_reconnects(ledger_url: str) -> None:
    async with session_on(ledger_url) as session:
        async with session.use(60) as driver:
            before = await driver.fetchval("SELECT pg_backend_pid()")
        async with asyncio.timeout(60):  # the statement would take an hour
            with pytest.raises(DatabaseUnavailableError):
                async with session.use(0.2) as driver:
                    await driver.execute("SELECT pg_sleep(3600)")
        async with session.use(60) as driver:
            assert await driver.fetchval("SELECT pg_backend_pid()") != before


async def test_session_ended_by_administrator_is_replaced(ledger_url: str) -> None:
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
    assert len(await stored_decisions(ledger_url, event.event_id)) == 1


async def test_absent_database_blocks_neither_start_nor_end(tmp_path: Path) -> None:
    settings = settings_for("postgresql://nobody@127.0.0.1:1/none", spool_dir=tmp_path)
    async with asyncio.timeout(60), open_ledger(settings) as ledger:
        ledger.append(access())
        await asyncio.sleep(0.1)
    assert len(list_directory(tmp_path).segments) == 1


async def test_frozen_database_does_not_block_the_end(tmp_path: Path) -> None:
    """The server accepts connections and never responds, so only the ledger's own deadline ends it."""
    connections = []
    frozen = await asyncio.start_server(lambda _, writer: connections.append(writer), "127.0.0.1", 0)
    port = frozen.sockets[0].getsockname()[1]
    try:
        settings = settings_for(f"postgresql://x@127.0.0.1:{port}/x", spool_dir=tmp_path)
        async with asyncio.timeout(120), open_ledger(settings) as ledger:
            ledger.append(access())
            await until(lambda: bool(connections))
        assert len(list_directory(tmp_path).segments) == 1
    finally:
        for writer in connections:
            writer.close()
        frozen.close()
        await frozen.wait_closed()
