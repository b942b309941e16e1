"""Reading the audit: filters, pages that neither skip nor repeat, and exports in bounded memory."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from platform_app.db import migrations
from platform_app.errors import ValidationFailed
from platform_app.ledger.reading.audit import AuditFilter, AuditReader
from tests.conftest import Platform
from tests.support.gateway.process import Gateway

EXPORT_ROWS = int(os.environ.get("AUDIT_EXPORT_ROWS", "100000"))
START = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
SECOND_2, SECOND_4 = START + timedelta(seconds=2), START + timedelta(seconds=4)
KEY = "0123456789ab"


@pytest.fixture
async def engine(empty_database: str) -> AsyncIterator[AsyncEngine]:
    """A migrated database with the partition of the entries' day, which midnight may have made yesterday."""
    await asyncio.to_thread(migrations.upgrade, empty_database)
    engine = create_async_engine(empty_database)
    async with engine.begin() as connection:
        await connection.execute(
            text("SELECT ledger_create_partition('access_decisions', :day)"), {"day": START.date()}
        )
    yield engine
    await engine.dispose()


async def _fill(engine: AsyncEngine, decisions: int, events: int, together: int = 10) -> None:
    """Both kinds, with many entries in one microsecond."""
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO access_decisions "
                "SELECT CAST(:start AS timestamptz) + make_interval(secs => n / :together), "
                "gen_random_uuid(), "
                "gen_random_uuid(), 'r' || n, CASE WHEN n % 2 = 0 THEN CAST(:key AS text) END, 'POST', "
                "CASE WHEN n % 3 = 0 THEN '/v1/platform/chat' ELSE 'unmatched' END, "
                "CASE WHEN n % 5 = 0 THEN 'deny' ELSE 'allow' END, NULL, 200, inet '192.0.2.7', 1.5 "
                "FROM generate_series(0, :count - 1) n"
            ),
            {"start": START, "key": KEY, "count": decisions, "together": together},
        )
        await connection.execute(
            text(
                "INSERT INTO audit_events (occurred_at, actor, action, target, trace_id) "
                "SELECT CAST(:start AS timestamptz) + make_interval(secs => n / :together), "
                "'key:' || CAST(:key AS text), 'api_key.create', 'ba9876543210', "
                "lpad(to_hex(n), 32, '0') FROM generate_series(0, :count - 1) n"
            ),
            {"start": START, "key": KEY, "count": events, "together": together},
        )


def _time(entry: Any) -> datetime:
    return datetime.fromisoformat(entry["occurred_at"])


async def _all(reader: AuditReader, wanted: AuditFilter, limit: int) -> list[Any]:
    entries: list[Any] = []
    cursor = None
    while True:
        page = await reader.page(wanted, only_owner=None, limit=limit, cursor=cursor)
        assert len(page.entries) <= limit
        entries += page.entries
        cursor = page.next_cursor
        if cursor is None:
            return entries


@pytest.mark.parametrize("limit", [1, 7, 50, 1000])
async def test_pages_hold_everything_once_and_in_order(engine: AsyncEngine, limit: int) -> None:
    await _fill(engine, decisions=93, events=41)
    entries = await _all(AuditReader(engine), AuditFilter(), limit)

    assert len({(entry["kind"], entry["id"]) for entry in entries}) == len(entries) == 93 + 41
    times = [entry["occurred_at"] for entry in entries]
    assert times == sorted(times, reverse=True)


async def test_new_entry_between_pages_shifts_no_page(engine: AsyncEngine) -> None:
    await _fill(engine, decisions=20, events=0)
    reader = AuditReader(engine)
    first = await reader.page(AuditFilter(), only_owner=None, limit=10)
    async with engine.begin() as connection:
        await connection.execute(
            text("INSERT INTO audit_events (actor, action, target) VALUES ('a', 'api_key.create', 'x')")
        )
    second = await reader.page(AuditFilter(), only_owner=None, limit=10, cursor=first.next_cursor)

    ids = [entry["id"] for entry in (*first.entries, *second.entries)]
    assert len(set(ids)) == 20


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (AuditFilter(kind="access"), lambda e: e["kind"] == "access"),
        (AuditFilter(kind="lifecycle"), lambda e: e["kind"] == "lifecycle"),
        (AuditFilter(key_id=KEY), lambda e: e["key_id"] == KEY or e.get("actor") == f"key:{KEY}"),
        (AuditFilter(key_id="ba9876543210"), lambda e: e["key_id"] == "ba9876543210"),
        (AuditFilter(route="/v1/platform/chat"), lambda e: e.get("route") == "/v1/platform/chat"),
        (AuditFilter(decision="deny"), lambda e: e.get("decision") == "deny"),
        (AuditFilter(kind="lifecycle", decision="deny"), lambda e: False),
        (AuditFilter(trace_id=f"{5:032x}"), lambda e: e["trace_id"] == f"{5:032x}"),
        (AuditFilter(since=SECOND_2, until=SECOND_4), lambda e: SECOND_2 <= _time(e) < SECOND_4),
        (AuditFilter(key_id="' OR 1=1 --"), lambda e: False),
    ],
)  # fmt: skip
async def test_filters_give_exactly_what_matches(engine: AsyncEngine, wanted: AuditFilter, matches: Any) -> None:
    await _fill(engine, decisions=60, events=30)
    reader = AuditReader(engine)
    everything = await _all(reader, AuditFilter(), 1000)
    expected = [entry for entry in everything if matches(entry)]

    assert await _all(reader, wanted, 13) == expected


@pytest.mark.parametrize(
    ("wanted", "limit", "cursor"),
    [
        (AuditFilter(), 0, None),
        (AuditFilter(), 1001, None),
        (AuditFilter(), 1, "nonsense"),
        (AuditFilter(), 1, "MS5hY2Nlc3MuMQ"),
        (AuditFilter(trace_id="xyz"), 1, None),
        (AuditFilter(key_id="a\0b"), 1, None),
        (AuditFilter(since=datetime.max.replace(tzinfo=timezone(timedelta(hours=-23)))), 1, None),
        (AuditFilter(until=datetime.min.replace(tzinfo=timezone(timedelta(hours=23)))), 1, None),
        (AuditFilter(since=datetime(2026, 1, 1)), 1, None),  # noqa: DTZ001 - a time without a zone is the point
    ],
)
async def test_what_cannot_be_read_is_named(
    engine: AsyncEngine, wanted: AuditFilter, limit: int, cursor: str | None
) -> None:
    with pytest.raises(ValidationFailed) as caught:
        await AuditReader(engine).page(wanted, only_owner=None, limit=limit, cursor=cursor)
    assert caught.value.details


async def test_export_of_many_rows_takes_bounded_memory(engine: AsyncEngine, empty_database: str) -> None:
    """A fresh process writes every row; its memory must not grow with their number (about 300 bytes each)."""
    await _fill(engine, decisions=EXPORT_ROWS, events=10, together=1000)
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PLATFORM_DATABASE_URL": empty_database,
        "PLATFORM_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    program = (
        "import resource, sys\n"
        "from apps.platform_cli.reading.audit import print_audit\n"
        "from platform_app.ledger.reading.audit import AuditFilter\n"
        "print_audit(AuditFilter(), 1000)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print_audit(AuditFilter(), None)\n"
        "sys.stderr.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))\n"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], env=environment, capture_output=True, timeout=300, check=True
    )
    lines = done.stdout.splitlines()
    grown_kib = int(done.stderr)
    assert len(lines) == 1000 + EXPORT_ROWS + 10
    assert set(json.loads(lines[-1])) >= {"kind", "id", "occurred_at", "key_id", "trace_id"}
    assert grown_kib < 8 * 1024, f"the export of {EXPORT_ROWS} rows took {grown_kib} KiB more than one page"


async def test_http_reads_and_exports_what_the_gateway_recorded(
    gateway: Gateway, platform: Platform, client: httpx.AsyncClient
) -> None:
    record, key = await asyncio.to_thread(platform.new_key, "platform:chat")
    reader = {"Authorization": f"Bearer {await asyncio.to_thread(platform.key, 'platform:audit:read')}"}
    url = f"{gateway.base_url}/v1/platform/audit"
    asked = [
        (await client.post(gateway.chat_url, headers={"X-API-Key": key}, json={"prompt": "x"})).headers["x-request-id"]
        for _ in range(5)
    ]
    async with asyncio.timeout(300):
        while True:
            lines = await client.get(url, headers=reader, params={"key_id": record.key_id, "format": "jsonl"})
            entries = [json.loads(line) for line in lines.text.splitlines()]
            if len(entries) == 6:
                break
            await asyncio.sleep(0.1)

    params: dict[str, str | int] = {"key_id": record.key_id, "kind": "access", "limit": 2}
    first = (await client.get(url, headers=reader, params=params)).json()
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert {entry["request_id"] for entry in entries if entry["kind"] == "access"} == set(asked)
    assert [entry["action"] for entry in entries if entry["kind"] == "lifecycle"] == ["api_key.create"]
    assert all(later["occurred_at"] >= sooner["occurred_at"] for later, sooner in pairwise(entries))
    assert first["data"] == [entry for entry in entries if entry["kind"] == "access"][:2]
    second = (await client.get(url, headers=reader, params=params | {"cursor": first["next_cursor"]})).json()
    assert second["data"] == [entry for entry in entries if entry["kind"] == "access"][2:4]
    refused = await client.get(url, headers={"X-API-Key": key})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")


async def test_last_use_of_key_is_stored_with_its_records(
    gateway: Gateway, platform: Platform, client: httpx.AsyncClient
) -> None:
    record, key = await asyncio.to_thread(platform.new_key, "platform:chat")
    admin = {"Authorization": f"Bearer {await asyncio.to_thread(platform.key, 'platform:api_keys:read')}"}
    url = f"{gateway.base_url}/v1/platform/api-keys/{record.key_id}"
    assert (await client.get(url, headers=admin)).json()["last_used_at"] is None

    before = datetime.now(UTC)
    await client.post(gateway.chat_url, headers={"X-API-Key": key}, json={"prompt": "x"})
    async with asyncio.timeout(300):
        while (used_at := (await client.get(url, headers=admin)).json()["last_used_at"]) is None:
            await asyncio.sleep(0.1)
    assert before <= datetime.fromisoformat(used_at) <= datetime.now(UTC)
