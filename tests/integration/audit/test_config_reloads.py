"""Config reloads in the audit: one event for one content, whatever the number of processes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from platform_app.db import migrations
from platform_app.db.models import AuditEvent
from platform_app.ledger.reading.audit import AuditFilter, AuditReader
from platform_app.resources.config_audit import ConfigAudit
from platform_app.resources.config_changes import ConfigChange

CHANGES = {"models": {"added": ["big"]}}


@pytest.fixture
async def engine(empty_database: str) -> AsyncIterator[AsyncEngine]:
    await asyncio.to_thread(migrations.upgrade, empty_database)
    made = create_async_engine(empty_database.replace("postgresql://", "postgresql+asyncpg://", 1))
    yield made
    await made.dispose()


def change(before: str, after: str) -> ConfigChange:
    return ConfigChange("file_changed", before, after, CHANGES)


async def events(engine: AsyncEngine) -> list[Any]:
    async with engine.connect() as connection:
        return list((await connection.execute(select(AuditEvent).order_by(AuditEvent.id))).mappings())


async def test_processes_write_one_audit_event_per_content(engine: AsyncEngine) -> None:
    processes = [ConfigAudit(engine) for _ in range(4)]
    for before, after in (("a", "b"), ("b", "a")):
        for process in processes:
            process.note(change(before, after))
        await asyncio.gather(*(process.write_waiting() for process in processes))
    first, second = await events(engine)
    assert (first["action"], first["reason"]) == ("config.reload", "file_changed")
    assert first["actor"].startswith("config:")
    assert (first["before"], first["after"]) == ({"sha256": "a"}, {"sha256": "b", "changes": CHANGES})
    assert second["after"]["sha256"] == "a"


async def test_reload_of_the_same_content_is_not_audited(engine: AsyncEngine) -> None:
    audit = ConfigAudit(engine)
    audit.note(change("a", "a"))
    await audit.write_waiting()
    assert await events(engine) == []


async def test_audit_event_waits_until_the_database_responds(engine: AsyncEngine) -> None:
    now = 0.0
    down = create_async_engine("postgresql+asyncpg://x@127.0.0.1:1/x")
    audit = ConfigAudit(down, clock=lambda: now)
    audit.note(change("a", "b"))
    await audit.write_waiting()
    audit._engine = engine
    await audit.write_waiting()
    assert await events(engine) == [], "it is not time yet"
    now = 10.0
    await audit.write_waiting()
    assert len(await events(engine)) == 1
    await down.dispose()


async def test_owner_does_not_read_config_reloads(engine: AsyncEngine) -> None:
    audit = ConfigAudit(engine)
    audit.note(change("a", "b"))
    await audit.write_waiting()
    reader = AuditReader(engine)
    [entry] = (await reader.page(AuditFilter(), only_owner=None)).entries
    assert (entry["kind"], entry["key_id"], entry["action"]) == ("lifecycle", None, "config.reload")
    assert (await reader.page(AuditFilter(), only_owner="team")).entries == ()
