"""One batch into PostgreSQL, once: COPY into a staging table, then insert what is not there yet."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import date, datetime

import asyncpg

from platform_app.ledger.events.event import LedgerEvent
from platform_app.ledger.shipping.batch import LINES_PER_TURN, Batch, batch_of
from platform_app.ledger.shipping.tables import Row, Table
from platform_app.ledger.spool.session import REFUSED_DATA, LedgerSession
from platform_app.observability import metrics

BATCH_SECONDS = 10.0
"""For a whole transaction of at most one segment, which takes about 0.1 s."""

_NOTE_USE = """
    UPDATE api_keys AS k SET last_used_at = used.at
    FROM unnest($1::text[], $2::timestamptz[]) AS used(key_id, at)
    WHERE k.key_id = used.key_id
    AND (k.last_used_at IS NULL OR k.last_used_at < used.at - interval '1 minute')
    AND k.key_id IN (SELECT key_id FROM api_keys WHERE key_id = ANY ($1) FOR UPDATE SKIP LOCKED)
"""


class Shipper:
    """Ships batches; the same batch may come again, also after a commit whose answer was lost."""

    def __init__(self, session: LedgerSession) -> None:
        self._session = session
        self._days: set[tuple[Table, date]] = set()

    async def ship(self, batch: Batch) -> list[LedgerEvent]:
        """Commit a batch. Returns the events that the server refuses, which is none unless decode() has a gap.

        Raises:
            DatabaseUnavailableError: nothing, or not all, was committed; ship it again.
        """
        if len(batch) == 0:
            return []
        try:
            await self._ship(batch)
            return []
        except REFUSED_DATA:
            self._days.clear()  # also what a partition that was dropped meanwhile looks like
        try:
            await self._ship(batch)
            return []
        except REFUSED_DATA:
            events = batch.all()
        if len(events) == 1:
            return events
        middle = len(events) // 2
        return await self.ship(batch_of(events[:middle])) + await self.ship(batch_of(events[middle:]))

    async def _ship(self, batch: Batch) -> None:
        async with self._session.use(BATCH_SECONDS) as driver:
            await self._make_days(driver, batch)
            async with driver.transaction():
                inserted = {table: await _insert(driver, table, events) for table, events in batch.in_order()}
                await _note_use(driver, batch)
        for table, count in inserted.items():
            metrics.LEDGER_SHIPPED.labels(table.name).inc(count)
            metrics.LEDGER_DUPLICATES.labels(table.name).inc(len(batch.events[table]) - count)

    async def _make_days(self, driver: asyncpg.Connection, batch: Batch) -> None:
        for table, day in batch.days():
            if (table, day) not in self._days:
                await driver.execute("SELECT ledger_create_partition($1, $2)", table.name, day)
                if len(self._days) > 1000:
                    self._days.clear()
                self._days.add((table, day))


async def _insert(driver: asyncpg.Connection, table: Table, events: Sequence[LedgerEvent]) -> int:
    """The number of events that were new."""
    # Temporary and gone with the transaction, so that it works behind a pooler that shares sessions. All names are
    # constants of ours.
    staging, columns = f"staging_{table.name}", ", ".join(table.columns)
    await driver.execute(f"CREATE TEMPORARY TABLE {staging} (LIKE {table.name}) ON COMMIT DROP")
    rows = _rows(table, events)
    await driver.copy_records_to_table(staging, schema_name="pg_temp", records=rows, columns=table.columns)
    status = await driver.execute(
        f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM pg_temp.{staging} ON CONFLICT DO NOTHING"  # noqa: S608
    )
    return int(status.rpartition(" ")[2])


async def _note_use(driver: asyncpg.Connection, batch: Batch) -> None:
    """Keep api_keys.last_used_at true to the minute, without an UPDATE per request. A row that somebody is changing
    right now is left out: the next batch has it."""
    used: dict[str, datetime] = {}
    for event in batch.all():
        if event.key_id is not None:
            used[event.key_id] = max(event.occurred_at, used.get(event.key_id, event.occurred_at))
    if used:
        await driver.execute(_NOTE_USE, list(used), list(used.values()))


async def _rows(table: Table, events: Sequence[LedgerEvent]) -> AsyncIterator[Row]:
    for index, event in enumerate(events):
        if index % LINES_PER_TURN == LINES_PER_TURN - 1:
            await asyncio.sleep(0)
        yield table.row(event)
