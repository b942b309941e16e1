"""A reader of the audit without `platform:*` sees what concerns its own owner's keys, and nothing else."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from platform_app.db import migrations
from platform_app.ledger.reading.audit import MAX_PAGE, AuditFilter, AuditReader
from tests.conftest import Platform
from tests.support.gateway.keys_api import Api
from tests.support.gateway.process import Gateway

# Noon, so that every entry of a test falls into one partition, also if midnight passes before the test runs.
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
MINE, THEIRS, MOVED, CAME = "m" * 12, "t" * 12, "o" * 12, "c" * 12


def at(minute: float) -> datetime:
    return NOON + timedelta(minutes=minute)


@dataclass
class Records:
    """The tables that the audit is read from."""

    engine: AsyncEngine

    async def run(self, statement: str, **parameters: Any) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(text(statement), parameters)

    async def key(self, key_id: str, owner: str) -> None:
        await self.run(
            "INSERT INTO api_keys (key_id, name, owner, environment, scopes, created_by) "
            "VALUES (:id, 'n', :owner, 'test', ARRAY['platform:chat'], 'tests')",
            id=key_id, owner=owner,
        )  # fmt: skip

    async def decision(self, request_id: str, key_id: str | None, minute: float, seconds: float = 0.001) -> None:
        """A request that ended at this minute, and took these seconds."""
        await self.run(
            "INSERT INTO access_decisions VALUES (:at, gen_random_uuid(), gen_random_uuid(), :request, :key, 'POST', "
            "'/v1/platform/chat', 'allow', NULL, 200, NULL, :ms)",
            at=at(minute), request=request_id, key=key_id, ms=seconds * 1000,
        )  # fmt: skip

    async def event(self, request_id: str, target: str, minute: float, before: str | None, after: str | None) -> None:
        """A change of a key that had the one owner before and has the other after; None: no record on that side."""
        sides = [None if owner is None else json.dumps({"owner": owner, "name": "n"}) for owner in (before, after)]
        await self.run(
            "INSERT INTO audit_events (occurred_at, actor, action, target, before, after, request_id) VALUES "
            "(:at, 'cli:ops', 'api_key.update', :target, CAST(:before AS jsonb), CAST(:after AS jsonb), :request)",
            at=at(minute), target=target, before=sides[0], after=sides[1], request=request_id,
        )  # fmt: skip

    async def read(self, only_owner: str | None, limit: int = 1000, **wanted: Any) -> list[Any]:
        """Every entry, over as many pages as it takes."""
        entries: list[Any] = []
        cursor = None
        while True:
            page = await AuditReader(self.engine).page(
                AuditFilter(**wanted), only_owner=only_owner, limit=limit, cursor=cursor
            )
            entries += page.entries
            cursor = page.next_cursor
            if cursor is None:
                return entries

    async def requests(self, only_owner: str | None, **wanted: Any) -> list[str]:
        """The request ids, oldest first."""
        return [entry["request_id"] for entry in reversed(await self.read(only_owner, **wanted))]


@pytest.fixture
async def records(empty_database: str) -> AsyncIterator[Records]:
    await asyncio.to_thread(migrations.upgrade, empty_database)
    engine = create_async_engine(empty_database)
    async with engine.begin() as connection:
        await connection.execute(text("SELECT ledger_create_partition('access_decisions', :day)"), {"day": NOON.date()})
    yield Records(engine)
    await engine.dispose()


@pytest.fixture
async def four_keys(records: Records) -> Records:
    """Two owners' keys; one moved from mine to theirs at minute 10, one the other way."""
    for key_id, owner in ((MINE, "mine"), (THEIRS, "theirs"), (MOVED, "theirs"), (CAME, "mine")):
        await records.key(key_id, owner)
    await records.event("moved", MOVED, 10, "mine", "theirs")
    await records.event("came", CAME, 10, "theirs", "mine")
    for minute in (5, 15):
        for name, key_id in (("mine", MINE), ("theirs", THEIRS), ("moved", MOVED), ("came", CAME)):
            await records.decision(f"{name}-{minute}", key_id, minute)
        await records.decision(f"keyless-{minute}", None, minute)
        await records.decision(f"unknown-{minute}", "0" * 12, minute)
    return records


async def test_decisions_are_those_of_own_keys_at_the_time(four_keys: Records) -> None:
    assert sorted(await four_keys.requests("mine", kind="access")) == ["came-15", "mine-15", "mine-5", "moved-5"]
    assert sorted(await four_keys.requests("theirs", kind="access")) == ["came-5", "moved-15", "theirs-15", "theirs-5"]
    assert await four_keys.requests("nobody", kind="access") == []
    assert len(await four_keys.requests(None, kind="access")) == 12


async def test_decision_belongs_to_the_owner_when_it_began(four_keys: Records) -> None:
    """A long stream that began before the move is still the former owner's."""
    await four_keys.decision("stream", MOVED, 10.5, seconds=60)
    assert "stream" in await four_keys.requests("mine", kind="access")
    assert "stream" not in await four_keys.requests("theirs", kind="access")


async def test_key_that_moved_twice_has_three_periods(records: Records) -> None:
    await records.key(MOVED, "c")
    await records.event("first", MOVED, 10, "a", "b")
    await records.event("renamed", MOVED, 15, "b", "b")
    await records.event("second", MOVED, 20, "b", "c")
    for minute in (5, 12, 17, 25):
        await records.decision(str(minute), MOVED, minute)
    assert await records.requests("a") == ["5", "first"]
    assert await records.requests("b") == ["first", "12", "renamed", "17", "second"]
    assert await records.requests("c") == ["second", "25"]


async def test_lifecycle_event_shows_own_side_only(four_keys: Records) -> None:
    await four_keys.event("made", MINE, 1, None, "mine")
    await four_keys.event("of theirs", THEIRS, 1, "theirs", "theirs")
    await four_keys.event("without records", MINE, 1, None, None)
    found = {entry["request_id"]: entry for entry in await four_keys.read("mine", kind="lifecycle")}
    assert set(found) == {"moved", "came", "made"}
    assert (found["moved"]["before"]["owner"], found["moved"]["after"]) == ("mine", None)
    assert (found["came"]["before"], found["came"]["after"]["owner"]) == (None, "mine")
    assert "theirs" not in json.dumps(list(found.values()))


@pytest.mark.parametrize(
    "wanted",
    [{"key_id": THEIRS}, {"key_id": "0" * 12}, {"key_id": THEIRS, "kind": "access"}, {"since": at(60)}],
)
async def test_filters_for_others_find_nothing(four_keys: Records, wanted: dict[str, Any]) -> None:
    assert await four_keys.read("mine", **wanted) == []


async def test_filter_by_trace_of_another_finds_nothing(four_keys: Records) -> None:
    for entry in await four_keys.read(None, kind="access"):
        own = entry["request_id"] in ("mine-5", "mine-15", "came-15", "moved-5")
        assert len(await four_keys.read("mine", trace_id=entry["trace_id"])) == own


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_pages_of_an_owner_hold_everything_once(four_keys: Records, limit: int) -> None:
    whole = await four_keys.read("mine")
    assert len(whole) == 6
    assert await four_keys.read("mine", limit=limit) == whole


async def test_cursor_of_another_leads_to_own_entries_only(four_keys: Records) -> None:
    reader = AuditReader(four_keys.engine)
    own = await four_keys.read("mine")
    cursor = None
    for _ in range(14):
        page = await reader.page(AuditFilter(), only_owner=None, limit=1, cursor=cursor)
        cursor = page.next_cursor
        if cursor is None:
            break
        seen = await reader.page(AuditFilter(), only_owner="mine", cursor=cursor)
        assert all(entry in own for entry in seen.entries)


async def test_export_holds_own_entries_only(four_keys: Records) -> None:
    await four_keys.run(
        "INSERT INTO access_decisions SELECT :at, gen_random_uuid(), gen_random_uuid(), 'r', "
        "CASE WHEN n % 2 = 0 THEN CAST(:mine AS text) ELSE :theirs END, 'POST', 'x', 'allow', NULL, 200, NULL, 1 "
        "FROM generate_series(1, :count) n",
        at=at(30), mine=MINE, theirs=THEIRS, count=MAX_PAGE * 3,
    )  # fmt: skip
    exported = AuditReader(four_keys.engine).export(AuditFilter(kind="access"), only_owner="mine")
    entries = [entry async for page in exported for entry in page]
    assert len(entries) == MAX_PAGE * 3 // 2 + 4
    assert {entry["key_id"] for entry in entries} == {MINE, MOVED, CAME}


async def test_move_index_serves_the_search_for_moves(four_keys: Records) -> None:
    """Each page looks for moved keys; without the index it would read every lifecycle event each time."""
    async with four_keys.engine.connect() as connection:
        await connection.execute(text("SET enable_seqscan = off"))
        plan = await connection.execute(
            text(
                "EXPLAIN SELECT target FROM audit_events "
                "WHERE audit_events.before ->> 'owner' != audit_events.after ->> 'owner' "
                "AND audit_events.before ->> 'owner' = 'mine'"
            )
        )
        lines = [row[0] for row in plan]
    assert any("ix_audit_events_owner_changes" in line for line in lines), lines


# --- over HTTP


async def lines_of(client: httpx.AsyncClient, gateway: Gateway, key: str, **query: str) -> Sequence[Any]:
    response = await client.get(
        f"{gateway.base_url}/v1/platform/audit", params={"format": "jsonl", **query}, headers={"X-API-Key": key}
    )
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


async def test_http_audit_stays_within_the_owner(
    admin: Api, gateway: Gateway, platform: Platform, client: httpx.AsyncClient, owner: str
) -> None:
    reader = await asyncio.to_thread(platform.key, "platform:audit:read", owner=owner)
    own, own_key = await admin.created(owner=owner)
    foreign, foreign_key = await admin.created(owner=f"not {owner}")
    assert await admin.use(own_key, foreign_key) == [200, 200]
    await client.get(f"{gateway.base_url}/v1/models")  # without a key
    async with asyncio.timeout(300):
        while len(await lines_of(client, gateway, admin.key, kind="access", key_id=foreign)) < 1:
            await asyncio.sleep(0.1)
        while len(await lines_of(client, gateway, reader, kind="access", key_id=own)) < 1:
            await asyncio.sleep(0.1)

    everything = await lines_of(client, gateway, reader)
    assert {entry["key_id"] for entry in everything} >= {own}
    assert foreign not in json.dumps(everything)
    assert None not in [entry["key_id"] for entry in everything]
    assert await lines_of(client, gateway, reader, key_id=foreign) == []
    url = f"{gateway.base_url}/v1/platform/audit"
    page = (await client.get(url, params={"key_id": foreign}, headers={"X-API-Key": reader})).json()
    assert page == {"data": [], "next_cursor": None}
    assert len(await lines_of(client, gateway, admin.key, key_id=foreign)) == 2
