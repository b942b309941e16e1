import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from platform_app.ledger.events.event import LedgerEvent, decode
from platform_app.ledger.shipping import batch as batch_module
from platform_app.ledger.shipping.batch import Batch, batch_of, parse
from platform_app.ledger.shipping.tables import ACCESS_DECISIONS, TABLES, USAGE_RECORDS
from tests.support.ledger.events import access, keeping, usage
from tests.support.ledger.versions import line_of_version_1

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)


def lines_of(events: Sequence[LedgerEvent]) -> list[bytes]:
    """As a batch holds them."""
    return [event.line()[:-1] for event in events]


def events_of(batch: Batch) -> list[LedgerEvent]:
    return [decode(line) for line in batch.all()]


async def test_lines_of_this_version_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are shipped as they are: PostgreSQL checks them."""
    events: list[LedgerEvent] = [access(occurred_at=NOW), usage(occurred_at=NOW), access(occurred_at=NOW)]
    monkeypatch.setattr(batch_module, "decode", lambda _: pytest.fail("a line was decoded"))
    parsed = await parse(b"".join(event.line() for event in events), keeping(90), current=True, now=NOW)
    assert sorted(parsed.batch.all()) == sorted(lines_of(events))
    assert (parsed.bad, parsed.torn, parsed.expired) == ([], b"", 0)


@pytest.mark.parametrize("current", [True, False])
async def test_bad_lines_are_set_apart(current: bool) -> None:
    events = [access(occurred_at=NOW, request_id=f"r{index}") for index in range(3)]
    data = events[0].line() + b"garbage\n" + events[1].line() + b"\n" + b"\x00" * 40 + b"\n" + events[2].line()
    parsed = await parse(data, keeping(90), current=current, now=NOW)
    assert events_of(parsed.batch) == events
    assert parsed.bad == [b"garbage", b"", b"\x00" * 40]
    assert (parsed.torn, parsed.expired) == (b"", 0)


@pytest.mark.parametrize(
    "line",
    [b"xyz]", b'["access",1]', b'["access","2026-13-45T00:00:00+00:00"]', b'["later","2026-06-15T00:00:00+00:00"]'],
)
async def test_line_without_kind_and_day_is_set_apart(line: bytes) -> None:
    """Also where it ends as a whole line does."""
    good = access(occurred_at=NOW)
    parsed = await parse(line + b"\n" + good.line(), keeping(90), current=True, now=NOW)
    assert (events_of(parsed.batch), parsed.bad) == ([good], [line])


async def test_lines_of_version_1_are_written_again() -> None:
    events: list[LedgerEvent] = [access(occurred_at=NOW), usage(occurred_at=NOW)]
    data = b"".join(map(line_of_version_1, events))
    parsed = await parse(data, keeping(90), current=False, now=NOW)
    assert parsed.batch.all() == lines_of(events)


async def test_torn_last_line_is_set_apart() -> None:
    event = access(occurred_at=NOW)
    parsed = await parse(event.line() + access().line()[:100], keeping(90), current=True, now=NOW)
    assert events_of(parsed.batch) == [event]
    assert len(parsed.torn) == 100
    assert parsed.bad == []


async def test_last_line_without_line_feed_is_an_event() -> None:
    event = access(occurred_at=NOW)
    parsed = await parse(event.line()[:-1], keeping(90), current=True, now=NOW)
    assert (events_of(parsed.batch), parsed.torn) == ([event], b"")


async def test_empty_segment_gives_an_empty_batch() -> None:
    parsed = await parse(b"", keeping(90), current=True, now=NOW)
    assert (len(parsed.batch), parsed.bad, parsed.torn) == (0, [], b"")


async def test_expired_days_are_counted_and_future_days_set_apart() -> None:
    kept = [
        access(occurred_at=datetime(2026, 3, 17, 0, 0, tzinfo=UTC)),  # the first of 90 days before
        access(occurred_at=datetime(2026, 6, 16, 23, 59, tzinfo=UTC)),
    ]
    expired = access(occurred_at=datetime(2026, 3, 16, 23, 59, 59, tzinfo=UTC))
    future = access(occurred_at=NOW + timedelta(days=2))
    data = b"".join(event.line() for event in (*kept, expired, future))
    parsed = await parse(data, keeping(90), current=True, now=NOW)
    assert events_of(parsed.batch) == kept
    assert parsed.expired == 1
    assert parsed.bad == lines_of([future])


@pytest.mark.parametrize(("current", "step"), [(True, "SORTED_PER_TURN"), (False, "DECODED_PER_TURN")])
async def test_parse_lets_other_tasks_run(monkeypatch: pytest.MonkeyPatch, current: bool, step: str) -> None:
    monkeypatch.setattr(batch_module, step, 10)
    data = access(occurred_at=NOW).line() * 60
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(count())
    await parse(data, keeping(90), current=current, now=NOW)
    task.cancel()
    assert turns >= 4


def test_batch_names_each_day_once() -> None:
    batch = batch_of([access(occurred_at=NOW), access(occurred_at=NOW), access(occurred_at=NOW - timedelta(days=1))])
    assert set(batch.days()) == {(ACCESS_DECISIONS, NOW.date()), (ACCESS_DECISIONS, NOW.date() - timedelta(days=1))}
    assert len(batch) == 3


def test_batch_is_in_the_order_of_the_tables() -> None:
    batch = batch_of([usage(), access(), usage()])
    assert [(table, len(lines)) for table, lines in batch.in_order()] == [(ACCESS_DECISIONS, 1), (USAGE_RECORDS, 2)]
    assert tuple(table for table, _ in batch.in_order()) == TABLES
    assert [table for table, _ in batch_of([usage()]).in_order()] == [USAGE_RECORDS]


async def test_each_table_has_its_own_retention() -> None:
    then = NOW - timedelta(days=100)
    decision, record, older = (
        access(occurred_at=then),
        usage(occurred_at=then),
        usage(occurred_at=NOW.replace(year=2024)),
    )
    retention = {ACCESS_DECISIONS: 90, USAGE_RECORDS: 400}
    data = decision.line() + record.line() + older.line()
    parsed = await parse(data, retention, current=True, now=NOW)
    assert events_of(parsed.batch) == [record]
    assert parsed.expired == 2
