import asyncio
from datetime import UTC, datetime, timedelta

import orjson

from platform_app.ledger.shipping.batch import LINES_PER_TURN, batch_of, parse
from platform_app.ledger.shipping.tables import ACCESS_DECISIONS, TABLES, USAGE_RECORDS, table_of
from tests.support.gateway.ledger_events import access, keeping, usage

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)


async def test_whole_lines_become_rows_and_the_rest_is_set_apart() -> None:
    events = [access(occurred_at=NOW, request_id=f"r{index}") for index in range(3)]
    data = events[0].line() + b"garbage\n" + events[1].line() + b"\n" + b"\x00" * 40 + b"\n" + events[2].line()
    parsed = await parse(data, keeping(90), NOW)
    assert parsed.batch.all() == events
    assert parsed.bad == [b"garbage\n", b"\n", b"\x00" * 40 + b"\n"]
    assert (parsed.torn, parsed.expired) == (b"", 0)


async def test_a_torn_last_line_is_told_apart() -> None:
    event = access(occurred_at=NOW)
    parsed = await parse(event.line() + access().line()[:100], keeping(90), NOW)
    assert parsed.batch.all() == [event]
    assert len(parsed.torn) == 100
    assert parsed.bad == []


async def test_a_last_line_that_lacks_only_its_line_feed_counts() -> None:
    event = access(occurred_at=NOW)
    parsed = await parse(event.line()[:-1], keeping(90), NOW)
    assert (parsed.batch.all(), parsed.torn) == ([event], b"")


async def test_an_empty_segment_is_no_batch() -> None:
    parsed = await parse(b"", keeping(90), NOW)
    assert (len(parsed.batch), parsed.bad, parsed.torn) == (0, [], b"")


async def test_days_past_retention_expire_and_a_far_future_is_set_apart() -> None:
    kept = [
        access(occurred_at=datetime(2026, 3, 17, 0, 0, tzinfo=UTC)),  # the first of 90 days before
        access(occurred_at=datetime(2026, 6, 16, 23, 59, tzinfo=UTC)),
    ]
    expired = access(occurred_at=datetime(2026, 3, 16, 23, 59, 59, tzinfo=UTC))
    future = access(occurred_at=NOW + timedelta(days=2))
    parsed = await parse(b"".join(event.line() for event in (*kept, expired, future)), keeping(90), NOW)
    assert parsed.batch.all() == kept
    assert parsed.expired == 1
    assert [orjson.loads(line)["event_id"] for line in parsed.bad] == [future.event_id]


async def test_others_get_their_turn_meanwhile() -> None:
    data = access(occurred_at=NOW).line() * (LINES_PER_TURN * 5)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(count())
    await parse(data, keeping(90), NOW)
    task.cancel()
    assert turns >= 4


def test_a_batch_knows_its_days() -> None:
    batch = batch_of([access(occurred_at=NOW), access(occurred_at=NOW), access(occurred_at=NOW - timedelta(days=1))])
    assert set(batch.days()) == {(ACCESS_DECISIONS, NOW.date()), (ACCESS_DECISIONS, NOW.date() - timedelta(days=1))}
    assert len(batch) == 3


def test_a_row_has_a_value_for_every_column() -> None:
    for event in (access(), usage()):
        table = table_of(event)
        assert len(table.row(event)) == len(table.columns)


def test_a_usage_row_has_each_value_in_its_own_column() -> None:
    record = usage(first_token_ms=1.5, stream=True, estimated=False, attempts=3)
    for name, value in zip(USAGE_RECORDS.columns, USAGE_RECORDS.row(record), strict=True):
        assert value == getattr(record, name), name


def test_a_batch_goes_in_the_order_of_the_tables_whatever_came_first() -> None:
    batch = batch_of([usage(), access(), usage()])
    assert [(table, len(events)) for table, events in batch.in_order()] == [(ACCESS_DECISIONS, 1), (USAGE_RECORDS, 2)]
    assert tuple(table for table, _ in batch.in_order()) == TABLES
    assert [table for table, _ in batch_of([usage()]).in_order()] == [USAGE_RECORDS]


async def test_each_table_has_a_retention_of_its_own() -> None:
    then = NOW - timedelta(days=100)
    decision, record, older = (
        access(occurred_at=then),
        usage(occurred_at=then),
        usage(occurred_at=NOW.replace(year=2024)),
    )
    retention = {ACCESS_DECISIONS: 90, USAGE_RECORDS: 400}
    parsed = await parse(decision.line() + record.line() + older.line(), retention, NOW)
    assert parsed.batch.all() == [record]
    assert parsed.expired == 2
