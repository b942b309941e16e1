"""Usage on a real PostgreSQL: records that arrive once, totals that are their sum, and queries of both."""

import asyncio
import csv
import io
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from typer.testing import CliRunner, Result

from apps.platform_cli.main import app
from platform_app.db import migrations
from platform_app.errors import ValidationFailed
from platform_app.ledger.events.codecs import dollars
from platform_app.ledger.events.event import UsageRecord
from platform_app.ledger.reading.usage import UsageReader
from platform_app.ledger.reading.usage_query import UsageFilter
from platform_app.ledger.service import open_ledger
from platform_app.ledger.shipping.batch import batch_of
from platform_app.ledger.shipping.shipper import Shipper
from platform_app.ledger.shipping.writer import LedgerWriter
from platform_app.ledger.spool.segments import Orphans
from platform_app.ledger.spool.session import DatabaseUnavailableError
from tests.conftest import Platform
from tests.support.fakes.core import Count
from tests.support.gateway.ledger_database import connected, session_on, settings_for
from tests.support.gateway.ledger_events import access, keeping, spool_in, usage
from tests.support.gateway.ledger_versions import ADDED_BY_0007, EarlierShipper
from tests.support.gateway.process import Gateway
from tests.support.gateway.usage_totals import differences

EXPORT_ROWS = int(os.environ.get("USAGE_EXPORT_ROWS", "30000"))
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
TODAY = datetime.now(UTC).date()


async def totals_are_the_sum(url: str, requests: int) -> None:
    """Every column of every total is the sum of its records, of which there are so many."""
    assert await differences(url) == []
    async with connected(url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM usage_records") == requests
        assert await connection.fetchval("SELECT coalesce(sum(requests), 0)::int FROM usage_daily") == requests


def varied(count: int, seed: int = 1) -> list[UsageRecord]:
    """Records of several days, keys, owners, providers, models and outcomes; durations that a real holds exactly."""
    chosen = random.Random(seed)
    return [
        usage(
            occurred_at=NOON - timedelta(days=chosen.randrange(3), minutes=chosen.randrange(700)),
            key_id=chosen.choice(["aaaaaaaaaaaa", "bbbbbbbbbbbb"]),
            owner=chosen.choice(["billing", "search"]),
            provider=chosen.choice(["openai", "azure"]),
            model=chosen.choice(["gpt-4o", "gpt-4o-mini"]),
            stream=chosen.random() < 0.5,
            prompt_tokens=chosen.randrange(10_000),
            completion_tokens=chosen.randrange(1000),
            cached_tokens=chosen.randrange(10),
            estimated=chosen.random() < 0.1,
            cost_microusd=chosen.choice([None, chosen.randrange(100_000)]),
            duration_ms=chosen.randrange(8000) / 4,
            first_token_ms=chosen.choice([None, chosen.randrange(800) / 4]),
            attempts=chosen.randrange(1, 4),
            outcome=chosen.choice(["ok", "ok", "ok", "client_closed", "provider_timeout"]),
        )
        for _ in range(count)
    ]


# Records and totals


async def test_every_field_arrives(own_url: str, tmp_path: Path) -> None:
    full = usage(first_token_ms=120.5, attempts=3, stream=True, estimated=True, outcome="provider_timeout")
    bare = usage(cost_microusd=None)
    cost = Count("platform_usage_cost_usd_total", provider="openai", model="gpt-4o-mini")
    shipped = Count("platform_ledger_shipped_total", table="usage_records")
    async with open_ledger(settings_for(own_url, spool_dir=tmp_path)) as ledger:
        for event in (full, access(), bare):
            ledger.append(event)
    assert os.listdir(tmp_path) == []
    async with connected(own_url) as connection:
        for event in (full, bare):
            row = await connection.fetchrow("SELECT * FROM usage_records WHERE event_id = $1", event.event_id)
            found = {**row, "event_id": row["event_id"].hex, "trace_id": row["trace_id"].hex}
            assert UsageRecord(**found) == event
        assert await connection.fetchval("SELECT count(*) FROM access_decisions") == 1
    assert cost.grown == pytest.approx(27e-6)
    assert shipped.grown == 2
    await totals_are_the_sum(own_url, 2)


@pytest.mark.parametrize("column", ["requests", "cost_microusd", "duration_ms", "first_token_ms"])
async def test_a_wrong_total_would_be_found(own_url: str, column: str) -> None:
    async with session_on(own_url) as session:
        assert await Shipper(session).ship(batch_of(varied(20))) == []
    await totals_are_the_sum(own_url, 20)
    async with connected(own_url) as connection:
        await connection.execute(f"UPDATE usage_daily SET {column} = {column} + 1")
        wrong = await connection.fetchval("SELECT count(*) FROM usage_daily")
    found = await differences(own_url)
    assert len(found) == (wrong if column.endswith("_ms") else 2 * wrong)  # one more count is another row


async def test_totals_count_a_record_of_a_repeated_segment_once(own_url: str, tmp_path: Path) -> None:
    records = varied(300)
    spool = spool_in(tmp_path / "spool")
    for record in records:
        spool.append(record.line())
        spool.append(access().line())
    spool.roll()
    [segment] = (tmp_path / "spool").glob("*.seg")
    data = segment.read_bytes()
    duplicates = Count("platform_ledger_duplicates_total", table="usage_records")
    async with session_on(own_url) as session:
        orphans = Orphans(spool.directory, spool.owner)
        writer = LedgerWriter(spool, orphans, Shipper(session), keeping(90))
        for times in range(3):
            segment.write_bytes(data)  # as if the process had died between the commit and the removal
            assert await writer.ship_pending() == 1
            assert duplicates.grown == 300 * times
            await totals_are_the_sum(own_url, 300)
        # A batch that is half known: the events of a segment that was cut in two, one of them twice in itself.
        mixed = [*records[:50], *varied(50, seed=2), records[0]]
        assert await Shipper(session).ship(batch_of(mixed)) == []
        await totals_are_the_sum(own_url, 350)
    orphans.close()
    spool.close()


async def test_a_transaction_that_fails_adds_nothing_up(own_url: str) -> None:
    """The server goes away at the last statement before the commit, then the batch comes again."""
    records = varied(40)
    async with session_on(own_url) as session, connected(own_url) as administrator:
        shipper = Shipper(session)
        async with administrator.transaction():
            # The trigger that adds up waits for this lock, so the whole batch is inserted and not committed.
            await administrator.execute("LOCK TABLE usage_daily IN ACCESS EXCLUSIVE MODE")
            shipping = asyncio.create_task(shipper.ship(batch_of(records)))
            pid = await _waiting(administrator)
            await administrator.execute("SELECT pg_terminate_backend($1, 5000)", pid)
            with pytest.raises(DatabaseUnavailableError):
                await shipping
        await totals_are_the_sum(own_url, 0)
        assert await shipper.ship(batch_of(records)) == []
        await totals_are_the_sum(own_url, 40)


async def _waiting(connection: asyncpg.Connection) -> int:
    async with asyncio.timeout(300):
        while True:
            pid: int | None = await connection.fetchval("SELECT pid FROM pg_locks WHERE NOT granted LIMIT 1")
            if pid is not None:
                return pid
            await asyncio.sleep(0.02)


async def test_lost_response_to_commit_doubles_nothing(own_url: str) -> None:
    records = varied(40)
    async with session_on(own_url) as session:
        assert await Shipper(session).ship(batch_of(records)) == []
    async with session_on(own_url) as session:  # the next process, which knows nothing of it
        assert await Shipper(session).ship(batch_of(records)) == []
    await totals_are_the_sum(own_url, 40)


async def test_writers_that_share_totals_neither_lose_nor_deadlock(own_url: str) -> None:
    """Six workers, each with rows of the same totals in another order, half of the batches twice."""
    batches = [varied(120, seed) for seed in range(12)]
    for seed, batch in enumerate(batches):
        random.Random(seed).shuffle(batch)

    async def work(number: int) -> None:
        async with session_on(own_url) as session:
            shipper = Shipper(session)
            for index in range(12):
                at = (index + number * 2) % 12
                if at % 6 in (number, (number + 1) % 6):
                    assert await shipper.ship(batch_of(batches[at])) == []

    failures = Count("platform_ledger_writer_failures_total")
    await asyncio.gather(*map(work, range(6)))
    assert failures.grown == 0
    await totals_are_the_sum(own_url, 12 * 120)


async def test_refused_record_is_in_no_total(own_url: str) -> None:
    good, bad = varied(20), usage(occurred_at=datetime.now(UTC) + timedelta(days=400))
    async with session_on(own_url) as session:
        assert await Shipper(session).ship(batch_of([*good[:9], bad, *good[9:]])) == [bad.line()[:-1]]
    await totals_are_the_sum(own_url, 20)


async def test_sums_of_large_numbers_do_not_overflow(own_url: str) -> None:
    largest = [usage(prompt_tokens=2**31 - 1, cost_microusd=10**12, duration_ms=1e9, attempts=32767) for _ in range(50)]
    async with session_on(own_url) as session:
        assert await Shipper(session).ship(batch_of(largest)) == []
    await totals_are_the_sum(own_url, 50)


async def test_migration_of_usage_runs_while_version_before_ships(empty_database: str) -> None:
    """Neither waits for the other: a request's and a writer's transaction are open all the time."""
    await asyncio.to_thread(migrations.upgrade, empty_database, "0002")
    async with session_on(empty_database) as session, connected(empty_database) as busy:
        before = EarlierShipper(session, "count", "provider_usage", *ADDED_BY_0007)
        await before.ship([access()])
        async with busy.transaction(), asyncio.timeout(300):
            await busy.execute("SELECT count(*) FROM access_decisions")
            await busy.execute("SELECT ledger_create_partition('access_decisions', current_date + 3)")
            await busy.execute("UPDATE api_keys SET last_used_at = now()")
            await busy.execute("INSERT INTO audit_events (actor, action, target) VALUES ('a', 'b', 'c')")
            await asyncio.to_thread(migrations.upgrade, empty_database, "0003")
            await before.ship([access(), access()])
        assert await busy.fetchval("SELECT count(*) FROM access_decisions") == 3
        await busy.execute("SELECT ledger_drop_partitions('access_decisions', current_date - 90)")
        await before.ship([access(), usage()])
    await totals_are_the_sum(empty_database, 1)


async def test_version_without_provider_usage_ships_during_upgrade(empty_database: str) -> None:
    """It loses no record, and totals stay the sum of both versions' records."""
    await asyncio.to_thread(migrations.upgrade, empty_database, "0005")
    kept = '{"prompt_tokens": 10000000000000000000}'
    async with session_on(empty_database) as session:
        before = EarlierShipper(session, "provider_usage", *ADDED_BY_0007)
        await before.ship([usage(), access()])
        await asyncio.to_thread(migrations.upgrade, empty_database, "0006")
        await before.ship([usage(), access()])
        await asyncio.to_thread(migrations.upgrade, empty_database)
        assert await Shipper(session).ship(batch_of([usage(provider_usage=kept), usage(provider_usage=None)])) == []
    async with connected(empty_database) as connection:
        rows = await connection.fetch("SELECT provider_usage FROM usage_records WHERE provider_usage IS NOT NULL")
    assert [row["provider_usage"] for row in rows] == [kept], "to the letter"
    await totals_are_the_sum(empty_database, 4)


# Queries


@pytest.fixture(scope="module")
def records() -> list[UsageRecord]:
    return varied(400)


@pytest.fixture(scope="module")
async def engine(ledger_url: str, records: list[UsageRecord]) -> AsyncIterator[AsyncEngine]:
    async with session_on(ledger_url) as session:
        assert await Shipper(session).ship(batch_of(records)) == []
    engine = create_async_engine(ledger_url)
    yield engine
    await engine.dispose()


FIELD = {"key": "key_id", "owner": "owner", "model": "model", "provider": "provider"}


def expected(records: Sequence[UsageRecord], group_by: Sequence[str]) -> list[dict[str, Any]]:
    """Return the groups of the response, counted in Python."""
    groups: dict[tuple[str, ...], list[UsageRecord]] = {}
    for record in records:
        values = [
            record.occurred_at.date().isoformat() if name == "day" else getattr(record, FIELD[name])
            for name in group_by
        ]
        groups.setdefault(tuple(values), []).append(record)
    names = [FIELD.get(name, name) for name in group_by]
    return [dict(zip(names, values, strict=True)) | sums(groups[values]) for values in sorted(groups)]


def sums(records: Sequence[UsageRecord]) -> dict[str, Any]:
    first = [record.first_token_ms for record in records if record.first_token_ms is not None]
    prompt, completion = sum(r.prompt_tokens for r in records), sum(r.completion_tokens for r in records)
    return {
        "requests": len(records),
        "errors": sum(r.outcome == "provider_timeout" for r in records),
        "client_closed": sum(r.outcome == "client_closed" for r in records),
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "cached_tokens": sum(r.cached_tokens for r in records),
        "total_tokens": prompt + completion,
        "cost_usd": f"{sum(r.cost_microusd or 0 for r in records) / 1e6:.6f}",
        "requests_without_price": sum(r.cost_microusd is None for r in records),
        "estimated_requests": sum(r.estimated for r in records),
        "mean_duration_ms": round(sum(r.duration_ms for r in records) / len(records), 3) if records else None,
        "mean_first_token_ms": round(sum(first) / len(first), 3) if first else None,
    }


@pytest.mark.parametrize(
    "group_by",
    [
        ("day", "model"), ("key",), ("owner",), ("model",), ("provider",), ("day",),
        ("model", "day"), ("key", "owner", "model", "provider", "day"),
    ],
    ids="+".join,
)  # fmt: skip
async def test_groups_are_what_the_records_add_up_to(
    engine: AsyncEngine, records: list[UsageRecord], group_by: tuple[str, ...]
) -> None:
    page = await UsageReader(engine).page(UsageFilter(), group_by, only_owner=None)
    assert list(page.groups) == expected(records, group_by)
    assert page.totals == sums(records)
    assert page.next_cursor is None
    assert (page.until, page.since) == (TODAY + timedelta(days=1), TODAY - timedelta(days=29))


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (UsageFilter(key_id="aaaaaaaaaaaa"), lambda r: r.key_id == "aaaaaaaaaaaa"),
        (UsageFilter(owner="search"), lambda r: r.owner == "search"),
        (UsageFilter(model="gpt-4o", provider="azure"), lambda r: (r.model, r.provider) == ("gpt-4o", "azure")),
        (UsageFilter(since=NOON.date()), lambda r: r.occurred_at.date() >= NOON.date()),
        (UsageFilter(until=NOON.date()), lambda r: r.occurred_at.date() < NOON.date()),
        (UsageFilter(owner="' OR 1=1 --"), lambda r: False),
        (UsageFilter(since=TODAY, until=TODAY + timedelta(days=1)), lambda r: False),
    ],
)
async def test_filters_give_exactly_what_matches(
    engine: AsyncEngine, records: list[UsageRecord], wanted: UsageFilter, matches: Any
) -> None:
    those = [record for record in records if matches(record)]
    page = await UsageReader(engine).page(wanted, ("owner", "day"), only_owner=None)
    assert list(page.groups) == expected(those, ("owner", "day"))
    assert page.totals == sums(those)
    single = [entry async for entries in UsageReader(engine).records(wanted, only_owner=None) for entry in entries]
    assert {entry["id"] for entry in single} == {record.event_id for record in those}
    assert len(single) == len(those)


@pytest.mark.parametrize("limit", [1, 3, 7, 1000])
@pytest.mark.parametrize("group_by", [("day", "model"), ("key", "owner", "model", "provider", "day")], ids="+".join)
async def test_pages_hold_every_group_once_and_in_order(
    engine: AsyncEngine, records: list[UsageRecord], limit: int, group_by: tuple[str, ...]
) -> None:
    found: list[Any] = []
    cursor = None
    while True:
        page = await UsageReader(engine).page(UsageFilter(), group_by, only_owner=None, limit=limit, cursor=cursor)
        assert len(page.groups) <= limit
        assert page.totals == sums(records), "of all pages"
        found += page.groups
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == expected(records, group_by)


@pytest.mark.parametrize(
    ("group_by", "limit", "cursor"),
    [
        (("tenant",), 1, None),
        ((), 1, None),
        (("day",), 0, None),
        (("day",), 1001, None),
        (("day",), 1, "nonsense"),
        (("day",), 1, "eyJkYXkiOiAieCJ9"),
        (("day",), 1, "eyJtb2RlbCI6ICJ4In0"),
        (("model",), 1, "eyJtb2RlbCI6IDF9"),
        (("model",), 1, "eyJtb2RlbCI6ICJcdTAwMDAifQ"),
    ],
)
async def test_what_cannot_be_asked_is_named(
    engine: AsyncEngine, group_by: tuple[str, ...], limit: int, cursor: str | None
) -> None:
    with pytest.raises(ValidationFailed) as caught:
        await UsageReader(engine).page(UsageFilter(), group_by, only_owner=None, limit=limit, cursor=cursor)
    assert caught.value.details


async def test_query_over_many_totals_reads_no_record(own_url: str) -> None:
    """A month of 200 keys with 10 models each: 60,000 totals, whatever the number of requests behind them."""
    async with connected(own_url) as connection:
        await connection.execute(
            "INSERT INTO usage_daily SELECT current_date - day, 'key' || key, 'owner' || key % 20, 'openai', "
            "'model' || model, 1600, 1, 1, 1600, 1000000, 100000, 5000, 300000, 0, 0, 800, 1e6, 1e5 "
            "FROM generate_series(0, 29) day, generate_series(1, 200) key, generate_series(1, 10) model"
        )
        await connection.execute("ANALYZE usage_daily")
        plan = await connection.fetch("EXPLAIN SELECT sum(requests) FROM usage_daily WHERE key_id = 'key7'")
        assert any("ix_usage_daily_key_id_day" in row[0] for row in plan)
    engine = create_async_engine(own_url)
    reader = UsageReader(engine)
    await reader.page(UsageFilter(), ("day",), only_owner=None)
    page = await reader.page(UsageFilter(), ("day", "model"), only_owner=None)
    await engine.dispose()
    assert (page.totals["requests"], len(page.groups)) == (96_000_000, 300)


# Within one owner


@pytest.mark.parametrize("group_by", [("day", "model"), ("owner",), ("key", "owner", "model", "provider", "day")])
async def test_usage_within_an_owner_sums_its_records_only(
    engine: AsyncEngine, records: list[UsageRecord], group_by: tuple[str, ...]
) -> None:
    own = [record for record in records if record.owner == "billing"]
    reader = UsageReader(engine)
    page = await reader.page(UsageFilter(), group_by, only_owner="billing")
    assert list(page.groups) == expected(own, group_by)
    assert page.totals == sums(own)
    single = [entry async for entries in reader.records(UsageFilter(), only_owner="billing") for entry in entries]
    assert {entry["id"] for entry in single} == {record.event_id for record in own}


@pytest.mark.parametrize("wanted", [UsageFilter(owner="search"), UsageFilter(owner="search", key_id="aaaaaaaaaaaa")])
async def test_usage_filter_for_another_owner_finds_nothing(
    engine: AsyncEngine, records: list[UsageRecord], wanted: UsageFilter
) -> None:
    reader = UsageReader(engine)
    assert (await reader.page(wanted, ("key", "model"), only_owner=None)).groups
    page = await reader.page(wanted, ("key", "model"), only_owner="billing")
    assert (page.groups, page.totals, page.next_cursor) == ((), sums([]), None)
    assert [entry async for entries in reader.records(wanted, only_owner="billing") for entry in entries] == []


async def test_usage_cursor_of_all_owners_shows_own_groups_only(
    engine: AsyncEngine, records: list[UsageRecord]
) -> None:
    own = [record for record in records if record.owner == "billing"]
    groups = expected(own, ("owner", "model"))
    reader = UsageReader(engine)
    cursor = None
    while True:
        theirs = await reader.page(UsageFilter(), ("owner", "model"), only_owner=None, limit=1, cursor=cursor)
        cursor = theirs.next_cursor
        if cursor is None:
            break
        page = await reader.page(UsageFilter(), ("owner", "model"), only_owner="billing", cursor=cursor)
        assert all(group in groups for group in page.groups)
        assert page.totals == sums(own)


# Over HTTP and at the command line


async def test_any_key_reads_its_own_usage_and_no_other(
    gateway: Gateway, platform: Platform, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    """With no scope for usage: its own key's records, whatever is asked for."""
    owner = f"own-{time.time_ns()}"
    record, key = await asyncio.to_thread(platform.new_key, "platform:chat", owner=owner)
    other, _ = await asyncio.to_thread(platform.new_key, "platform:chat", owner=owner)
    mine = [replace(one, owner=owner, key_id=record.key_id) for one in varied(20, seed=5)]
    theirs = [replace(one, owner=owner, key_id=other.key_id) for one in varied(10, seed=6)]
    async with open_ledger(settings_for(platform.environment["PLATFORM_DATABASE_URL"], spool_dir=tmp_path)) as ledger:
        for each in (*mine, *theirs):
            ledger.append(each)
    url, headers = f"{gateway.base_url}/v1/platform/usage", {"Authorization": f"Bearer {key}"}

    async def ask(**params: Any) -> httpx.Response:
        return await client.get(url, headers=headers, params=params)

    own = (await ask(group_by=["model", "key"])).json()
    assert (own["data"], own["totals"]) == (expected(mine, ("model", "key")), sums(mine))
    assert (await ask(group_by=["model", "key"], key_id=record.key_id, owner=owner)).json() == own
    first = (await ask(limit=1)).json()
    second = (await ask(cursor=first["next_cursor"])).json()
    assert first["data"] + second["data"] == expected(mine, ("day", "model"))
    for refused in ({"key_id": other.key_id}, {"owner": "tests"}, {"key_id": ""}, {"owner": ""}):
        response = await ask(**refused)
        assert (response.status_code, response.json()["error"]["code"]) == (403, "insufficient_scope"), refused
    reader = await asyncio.to_thread(platform.key, "platform:usage:read", owner=owner)
    everything = await client.get(url, headers={"Authorization": f"Bearer {reader}"}, params={"group_by": "model"})
    assert everything.json()["totals"] == sums([*mine, *theirs])


async def test_http_and_the_command_line_say_the_same(
    gateway: Gateway, platform: Platform, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    owner = f"usage-{time.time_ns()}"
    mine = [replace(record, owner=owner) for record in varied(60, seed=3)]
    async with open_ledger(settings_for(platform.environment["PLATFORM_DATABASE_URL"], spool_dir=tmp_path)) as ledger:
        for record in mine:
            ledger.append(record)
    reader = {"Authorization": f"Bearer {await asyncio.to_thread(platform.key, 'platform:usage:read', owner=owner)}"}
    url = f"{gateway.base_url}/v1/platform/usage"

    answer = await client.get(url, headers=reader, params={"owner": owner, "group_by": ["model", "key"]})
    assert answer.status_code == 200, answer.text
    assert answer.headers["ratelimit-policy"]
    whole = answer.json()
    assert whole["data"] == expected(mine, ("model", "key"))
    assert whole["totals"] == sums(mine)
    default = (await client.get(url, headers=reader, params={"owner": owner})).json()
    assert default["data"] == expected(mine, ("day", "model"))
    first = (await client.get(url, headers=reader, params={"owner": owner, "limit": 1})).json()
    second = await client.get(url, headers=reader, params={"owner": owner, "cursor": first["next_cursor"]})
    assert first["data"] + second.json()["data"] == default["data"]

    unfiltered = (await client.get(url, headers=reader, params={"group_by": ["model", "key"]})).json()
    assert unfiltered == whole, "without platform:* the caller's owner is the only one"
    foreign = {"Authorization": f"Bearer {await asyncio.to_thread(platform.key, 'platform:usage:read')}"}
    nothing = (await client.get(url, headers=foreign, params={"owner": owner})).json()
    assert (nothing["data"], nothing["totals"]["requests"], nothing["next_cursor"]) == ([], 0, None)
    admin = {"Authorization": f"Bearer {await asyncio.to_thread(platform.key, 'platform:*')}"}
    assert (await client.get(url, headers=admin, params={"owner": owner, "group_by": ["model", "key"]})).json() == whole

    ask = ["usage", "--owner", owner, "--group-by", "model", "--group-by", "key"]
    told = json.loads(await cli(platform, *ask, "--format", "json"))
    assert told == {name: value for name, value in whole.items() if name != "next_cursor"}
    rows = list(csv.DictReader(io.StringIO(await cli(platform, *ask, "--format", "csv"))))
    assert rows == [{name: "" if v is None else str(v) for name, v in group.items()} for group in whole["data"]]
    lines = (await cli(platform, *ask)).splitlines()
    assert (
        " ".join(lines[0].split())
        == "model key_id requests errors tokens in cached tokens out cost USD no price mean ms"
    )
    assert [line.split()[:2] for line in lines[1:5]] == [[g["model"], g["key_id"]] for g in whole["data"]]
    assert lines[5].split()[:2] == ["total", "60"]
    assert whole["totals"]["cost_usd"] in lines[5]
    records = [json.loads(line) for line in (await cli(platform, "usage", "--owner", owner, "--records")).splitlines()]
    newest_first = sorted(mine, key=lambda record: (record.occurred_at, record.event_id), reverse=True)
    assert [record["id"] for record in records] == [record.event_id for record in newest_first]
    assert sum(record["prompt_tokens"] for record in records) == whole["totals"]["prompt_tokens"]
    assert [record["cost_usd"] for record in records] == [
        None if each.cost_microusd is None else dollars(each.cost_microusd) for each in newest_first
    ]


async def invoke(platform: Platform, *arguments: str) -> Result:
    """Run the command; in a thread, because it runs its own event loop."""
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=dict(platform.environment))


async def cli(platform: Platform, *arguments: str, code: int = 0) -> str:
    """What the command prints."""
    outcome = await invoke(platform, *arguments)
    assert outcome.exit_code == code, outcome.output
    assert outcome.exception is None or isinstance(outcome.exception, SystemExit | ValidationFailed)
    return outcome.stdout


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("group_by=tenant", "group_by"),
        ("since=yesterday", "since"),
        ("since=1700000000", "since"),
        ("since=2026-13-01", "since"),
        ("until=2026-11-23T00:00:00Z", "until"),
        ("since=2026-02-01&until=2026-02-01", "since"),
        ("since=2001-01-01&until=2026-01-01", "since"),
        ("until=1999-12-31", "until"),
        ("until=9999-12-31", "until"),
        ("limit=0", "limit"),
        ("cursor=x", "cursor"),
        ("owner=a%00b", "owner"),
        ("model=" + "x" * 201, "model"),
    ],
)
async def test_http_names_what_is_wrong(
    gateway: Gateway, platform: Platform, client: httpx.AsyncClient, query: str, names: str
) -> None:
    reader = {"Authorization": f"Bearer {await asyncio.to_thread(platform.key, 'platform:usage:read')}"}
    answer = await client.get(f"{gateway.base_url}/v1/platform/usage?{query}", headers=reader)
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert error["code"] == "validation_error"
    assert any(detail.startswith(names) for detail in error["details"]), error


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (("--since", "yesterday"), 2, "--since"),
        (("--group-by", "tenant"), 1, "group_by"),
        (("--records", "--format", "csv"), 2, "--format"),
        (("--since", "2026-02-01", "--until", "2026-02-01"), 1, "since"),
    ],
)
async def test_the_command_line_refuses_what_cannot_be_asked(
    platform: Platform, arguments: tuple[str, ...], code: int, problem: str
) -> None:
    outcome = await invoke(platform, "usage", *arguments)
    assert (outcome.exit_code, outcome.stdout) == (code, ""), "nothing on stdout"
    assert problem in " ".join([outcome.stderr, *(getattr(outcome.exception, "details", None) or ())])


async def test_an_export_of_many_records_takes_bounded_memory(own_url: str) -> None:
    async with session_on(own_url) as session, connected(own_url) as connection:
        assert await Shipper(session).ship(batch_of([usage(occurred_at=NOON)])) == []
        await connection.execute(
            "INSERT INTO usage_records SELECT occurred_at - make_interval(secs => n / 100), gen_random_uuid(), "
            "trace_id, cost_microusd, prompt_tokens, completion_tokens, cached_tokens, duration_ms, first_token_ms, "
            "attempts, stream, estimated, request_id, key_id, owner, route, provider, model, upstream_model, outcome "
            "FROM usage_records, generate_series(1, $1) n",
            EXPORT_ROWS,
        )
    await totals_are_the_sum(own_url, EXPORT_ROWS + 1)
    program = (
        "import resource, sys\n"
        "from datetime import date\n"
        "from apps.platform_cli.usage.command import print_records\n"
        "from platform_app.ledger.reading.usage_query import UsageFilter\n"
        "print_records(UsageFilter(since=date(2020, 1, 1), until=date(2020, 1, 2)))\n"
        "print_records(UsageFilter(model='none'))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print_records(UsageFilter())\n"
        "sys.stderr.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))\n"
    )
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PLATFORM_DATABASE_URL": own_url,
        "PLATFORM_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], env=environment, capture_output=True, timeout=300, check=True
    )
    assert len({json.loads(line)["id"] for line in done.stdout.splitlines()}) == EXPORT_ROWS + 1
    assert int(done.stderr) < 16 * 1024, f"{EXPORT_ROWS} records took {done.stderr!r} KiB more than none"
