"""Queries of usage on a real PostgreSQL: groups, filters, pages and owners."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from platform_app.errors import ValidationFailed
from platform_app.ledger.events.event import UsageRecord
from platform_app.ledger.reading.usage import UsageReader
from platform_app.ledger.reading.usage_query import UsageFilter
from platform_app.ledger.shipping.batch import batch_of
from platform_app.ledger.shipping.shipper import Shipper
from tests.support.ledger.database import connected, session_on
from tests.support.ledger.usage.varied import NOON, expected, sums, varied

TODAY = datetime.now(UTC).date()


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
    today = datetime.now(UTC).date()
    assert (page.until, page.since) == (today + timedelta(days=1), today - timedelta(days=29))


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
async def test_query_that_is_invalid_names_what_is_wrong(
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
