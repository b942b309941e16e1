"""Databases for tests of the ledger, and how they are reached and read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from platform_app.config import Settings, load_settings
from platform_app.db import migrations
from platform_app.ledger.spool.session import LedgerSession, make_ledger_engine
from tests.support.paths import ROOT
from tests.support.timing.apart import run_apart

ROLES = ROOT / "deploy" / "roles.sql"


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
    engine = make_ledger_engine(settings_for(url, database_timeout_seconds=60))  # not a bound of these tests
    session = LedgerSession(engine)
    try:
        yield session
    finally:
        await session.aclose()
        await engine.dispose()


def migrate_up(url: str) -> None:
    """Bring a database to head. Alembic needs a thread without an event loop."""
    run_apart(lambda: asyncio.to_thread(migrations.upgrade, url))


def set_up_roles(url: str) -> None:
    """Run deploy/roles.sql as the URL's user."""

    async def run() -> None:
        async with connected(url) as connection:
            await connection.execute(ROLES.read_text())

    run_apart(run)


async def waits_for_lock(url: str, task: "asyncio.Task[Any]") -> int:
    """Wait until a session of this database waits for a lock, and return its process id. The server has databases of
    other tests too. Fails if the task, which is to wait, ends before."""
    waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(300), connected(url) as watcher:  # not in a transaction, which would see one state only
        while (pid := await watcher.fetchval(waiting)) is None:
            assert not task.done(), f"it did not wait for a lock: {await task}"
            await asyncio.sleep(0.01)
    return int(pid)


def as_role(url: str, role: str) -> str:
    return url.replace("//postgres@", f"//{role}@")


async def stored_decisions(url: str, *event_ids: str) -> list[asyncpg.Record]:
    """The access decisions with these ids, the oldest first."""
    async with connected(url) as connection:
        rows: list[asyncpg.Record] = await connection.fetch(
            "SELECT * FROM access_decisions WHERE event_id = ANY ($1::uuid[]) ORDER BY occurred_at", list(event_ids)
        )
        return rows
