"""What was spent according to the ledger: records in PostgreSQL and in the spool, each once (issue 11, budgets)."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from platform_app.config import LimitRule, PriceConfig
from platform_app.ledger.events.event import UsageRecord
from platform_app.ledger.reading import spent as spent_module
from platform_app.ledger.reading.spent import Spent, SpentFilter, SpentReader, SpentUnknown, UnpricedTokens
from platform_app.ledger.shipping.batch import batch_of
from platform_app.ledger.shipping.shipper import Shipper
from platform_app.rate_limit.limiters.seeding import HistoryUnavailable
from platform_app.rate_limit.matching import LimitedRequest
from platform_app.rate_limit.rule import rule_of
from platform_app.resources.budget_history import LedgerHistory, spent_filter
from tests.support.ledger.database import session_on
from tests.support.ledger.events import access, spool_in, usage

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
EVERYBODY = SpentFilter()
SOON = timedelta(minutes=1)


@pytest.fixture
async def engine(own_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(own_url)
    yield engine
    await engine.dispose()


@pytest.fixture
def reader(engine: AsyncEngine, tmp_path: Path) -> SpentReader:
    return SpentReader(engine, tmp_path)


async def ship(url: str, *records: UsageRecord) -> None:
    async with session_on(url) as session:
        assert await Shipper(session).ship(batch_of(records)) == []


def spool(directory: Path, *records: UsageRecord) -> None:
    made = spool_in(directory)
    for record in records:
        made.append(access().line())
        made.append(record.line())


def spent(records: Sequence[UsageRecord]) -> Spent:
    return Spent(
        sum(each.prompt_tokens + each.completion_tokens for each in records),
        sum(each.cost_microusd or 0 for each in records),
    )


async def test_period_begins_at_its_moment(own_url: str, reader: SpentReader) -> None:
    """Whole UTC days come from totals; a period of another time zone begins in the middle of one."""
    times = [TODAY - timedelta(days=1, hours=3), TODAY - timedelta(hours=3), TODAY - timedelta(hours=1), TODAY]
    records = [usage(occurred_at=at, cost_microusd=10**index) for index, at in enumerate(times)]
    await ship(own_url, *records)
    for first, since in enumerate(times):
        assert await reader.spent(EVERYBODY, since) == spent(records[first:])
        assert await reader.spent(EVERYBODY, since + timedelta(microseconds=1)) == (
            spent(records[first + 1 :]) if since != TODAY else spent([])
        )


async def test_filters_are_those_of_the_scope(own_url: str, reader: SpentReader) -> None:
    mine: dict[str, Any] = {"key_id": "a" * 12, "owner": "search", "model": "gpt-4o", "route": "/v1/embeddings"}
    records = [usage(occurred_at=TODAY, cost_microusd=1, **mine)]
    records += [
        usage(occurred_at=TODAY, cost_microusd=10**number, **{**mine, name: other})
        for number, (name, other) in enumerate(
            [("key_id", "b" * 12), ("owner", "billing"), ("model", "gpt-4o-mini"), ("route", "/v1/chat/completions")], 1
        )
    ]
    await ship(own_url, *records)
    for wanted, expected in (
        (EVERYBODY, 11111),
        (SpentFilter(key_id="a" * 12), 11101),
        (SpentFilter(owner="search"), 11011),
        (SpentFilter(models=("gpt-4o",)), 10111),
        (SpentFilter(routes=("/v1/embeddings",)), 1111),
        (SpentFilter("a" * 12, "search", ("gpt-4o",), ("/v1/embeddings",)), 1),
        (SpentFilter(models=("gpt-4o", "gpt-4o-mini")), 11111),
        (SpentFilter(key_id="nobody"), 0),
    ):
        assert (await reader.spent(wanted, TODAY)).cost_microusd == expected, wanted


async def test_spooled_records_count_once(own_url: str, reader: SpentReader, tmp_path: Path) -> None:
    """What is shipped already and still in the spool, as after a crash in between, is one record."""
    shipped, both, waiting = (usage(occurred_at=TODAY + SOON, cost_microusd=units) for units in (1, 10, 100))
    other = usage(occurred_at=TODAY + SOON, cost_microusd=1000, key_id="b" * 12)
    before = usage(occurred_at=TODAY - SOON, cost_microusd=10_000)
    await ship(own_url, shipped, both)
    spool(tmp_path, both, waiting, other, before)
    spool(tmp_path, both)
    assert (await reader.spent(EVERYBODY, TODAY)).cost_microusd == 1111
    assert (await reader.spent(SpentFilter(key_id="k" * 12), TODAY)).cost_microusd == 111


def tear(directory: Path) -> None:
    [segment] = directory.glob("*.open")
    with segment.open("ab") as file:
        file.write(b'["usage"]\n{"kind":"usage"}\n[]\n["usage",5]\n' + usage(occurred_at=TODAY).line()[:-40])


async def test_torn_lines_of_a_spool_are_no_records(reader: SpentReader, tmp_path: Path) -> None:
    spool(tmp_path, usage(occurred_at=TODAY, cost_microusd=7))
    tear(tmp_path)
    assert (await reader.spent(EVERYBODY, TODAY)).cost_microusd == 7


async def test_spool_that_is_behind_makes_it_unknown(
    reader: SpentReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spent_module, "MAX_SPOOL_BYTES", 1000)
    spool(tmp_path, *(usage(occurred_at=TODAY) for _ in range(5)))
    with pytest.raises(SpentUnknown, match="has not been shipped"):
        await reader.spent(EVERYBODY, TODAY)


async def test_missing_spool_or_database_makes_it_unknown(engine: AsyncEngine, tmp_path: Path) -> None:
    with pytest.raises(SpentUnknown):
        await SpentReader(engine, tmp_path / "gone").spent(EVERYBODY, TODAY)
    nowhere = create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:1/none")
    with pytest.raises(SpentUnknown, match="PostgreSQL: it refuses connections"):
        await SpentReader(nowhere, tmp_path).spent(EVERYBODY, TODAY)
    await nowhere.dispose()


async def test_database_without_tables_makes_it_unknown(empty_database: str, tmp_path: Path) -> None:
    engine = create_async_engine(empty_database)
    with pytest.raises(SpentUnknown):
        await SpentReader(engine, tmp_path).spent(EVERYBODY, TODAY)
    await engine.dispose()


async def test_unpriced_calls_count_if_the_rule_has_a_price(own_url: str, reader: SpentReader, tmp_path: Path) -> None:
    unpriced: dict[str, Any] = {"cost_microusd": None, "prompt_tokens": 100, "cached_tokens": 40}
    await ship(own_url, usage(occurred_at=TODAY, completion_tokens=20, **unpriced), usage(occurred_at=TODAY))
    spool(tmp_path, usage(occurred_at=TODAY, completion_tokens=30, **unpriced))
    found = await reader.spent(EVERYBODY, TODAY, unpriced=True)
    assert (found.cost_microusd, found.unpriced) == (27, UnpricedTokens(200, 50, 80))
    price = PriceConfig(
        input_usd_per_million=Decimal(1), output_usd_per_million=Decimal(10), cached_input_usd_per_million=Decimal(0)
    )
    rule = budget(scope="global", on_no_price=price)
    assert await used(reader, rule) == 27 + 120 + 500


def budget(**fields: Any) -> LimitRule:
    return LimitRule.model_validate(
        {"name": "usd", "scope": "key", "unit": "cost_usd", "limit": 1, "window": "month", "time_zone": "UTC", **fields}
    )


WHO = LimitedRequest("k" * 12, "billing", "/v1/platform/chat", "gpt-4o-mini")


async def used(reader: SpentReader, rule: LimitRule) -> int:
    since = int(TODAY.timestamp()) * 1_000_000
    return await LedgerHistory(reader).used(rule_of(rule), WHO, since)


async def test_units_are_those_of_the_rule(own_url: str, reader: SpentReader) -> None:
    await ship(own_url, usage(occurred_at=TODAY), usage(occurred_at=TODAY, key_id="b" * 12))
    assert await used(reader, budget()) == 27
    assert await used(reader, budget(scope="owner")) == 54
    assert await used(reader, budget(unit="tokens", limit=10)) == 120


async def test_history_of_a_frozen_database_is_unavailable(tmp_path: Path) -> None:
    nowhere = create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:1/none")
    with pytest.raises(HistoryUnavailable, match="PostgreSQL: it refuses connections"):
        await used(SpentReader(nowhere, tmp_path), budget())
    await nowhere.dispose()


@pytest.mark.parametrize(
    ("scope", "fields", "expected"),
    [
        ("key", {}, SpentFilter(key_id="k" * 12)),
        ("owner", {}, SpentFilter(owner="billing")),
        ("model", {}, SpentFilter(models=("gpt-4o-mini",))),
        ("key_model", {}, SpentFilter(key_id="k" * 12, models=("gpt-4o-mini",))),
        ("route", {}, SpentFilter(routes=("/v1/platform/chat",))),
        ("key_route", {}, SpentFilter(key_id="k" * 12, routes=("/v1/platform/chat",))),
        ("global", {}, SpentFilter()),
        ("global", {"models": ["b", "a"]}, SpentFilter(models=("a", "b"))),
        ("model", {"models": ["gpt-4o-mini", "a"]}, SpentFilter(models=("gpt-4o-mini",))),
        ("global", {"routes": ["/v1/embeddings"]}, SpentFilter(routes=("/v1/embeddings",))),
    ],
)
def test_whose_use_a_counter_counts(scope: str, fields: dict[str, Any], expected: SpentFilter) -> None:
    assert spent_filter(rule_of(budget(scope=scope, **fields)), WHO) == expected


def test_rule_for_all_model_routes_does_not_filter() -> None:
    """Totals have no routes, so a rule that names all of them reads totals."""
    every = ["/v1/platform/chat", "/v1/chat/completions", "/v1/embeddings"]
    found = spent_filter(rule_of(budget(scope="global", routes=every)), WHO)
    assert found.routes in ((), tuple(sorted(every)))
