"""One batch into PostgreSQL, once: COPY into a staging table, then insert what is not there yet."""

from collections.abc import Iterable, Sequence
from datetime import date

import asyncpg

from platform_app.db.connections import limit_of_lost_transaction
from platform_app.ledger.shipping.batch import Batch, batch_of_lines, check_lines
from platform_app.ledger.shipping.tables import Table
from platform_app.ledger.spool.session import REFUSED_DATA, LedgerSession
from platform_app.observability import metrics

BATCH_SECONDS = 10.0
"""For a whole transaction of at most one segment, which takes about 0.1 s."""

# All names in these statements are constants of ours.
_NOTE_USE = """
    UPDATE api_keys AS k SET last_used_at = used.at
    FROM (SELECT key_id, max(occurred_at) AS at FROM ({events}) AS events GROUP BY key_id) AS used
    WHERE k.key_id = used.key_id
    AND (k.last_used_at IS NULL OR k.last_used_at < used.at - interval '1 minute')
    AND k.key_id IN (
        SELECT key_id FROM api_keys WHERE key_id IN (SELECT key_id FROM ({events}) AS events) FOR UPDATE SKIP LOCKED
    )
"""


class MergedLinesError(ValueError):
    """PostgreSQL read fewer rows than there were lines: a damaged line took the following one for a part of itself."""


class Shipper:
    """Ships batches. The same batch may come again, also after a commit whose response was lost."""

    def __init__(self, session: LedgerSession) -> None:
        self._session = session
        self._days: set[tuple[Table, date]] = set()

    async def ship(self, batch: Batch) -> list[bytes]:
        """Commit a batch. Returns the lines that hold no event, or that the server refuses.

        Raises:
            DatabaseUnavailableError: nothing, or not all, was committed; ship it again.
        """
        try:
            await self._ship(batch)
            return []
        except REFUSED_DATA:
            self._days.clear()  # a partition that was dropped meanwhile is refused data too
        good, bad = await check_lines(batch.all())
        return bad + await self._ship_parts(good)

    async def _ship_parts(self, lines: Sequence[bytes]) -> list[bytes]:
        """Ship lines, halving them until those that the server refuses are alone. Returns these."""
        try:
            await self._ship(batch_of_lines(lines))
            return []
        except REFUSED_DATA:
            if len(lines) == 1:
                return list(lines)
        middle = len(lines) // 2
        return await self._ship_parts(lines[:middle]) + await self._ship_parts(lines[middle:])

    async def _ship(self, batch: Batch) -> None:
        if not len(batch):
            return
        tables = dict(batch.in_order())
        async with self._session.use(BATCH_SECONDS) as driver:
            await self._make_days(driver, batch)
            async with driver.transaction():
                await driver.execute(limit_of_lost_transaction())
                inserted = {table: await _insert(driver, table, lines) for table, lines in tables.items()}
                await _note_use(driver, tables)
        for table, count in inserted.items():
            metrics.LEDGER_SHIPPED.labels(table.name).inc(count)
            metrics.LEDGER_DUPLICATES.labels(table.name).inc(len(tables[table]) - count)

    async def _make_days(self, driver: asyncpg.Connection, batch: Batch) -> None:
        for table, day in batch.days():
            if (table, day) not in self._days:
                await driver.execute("SELECT ledger_create_partition($1, $2)", table.name, day)
                if len(self._days) > 1000:
                    self._days.clear()
                self._days.add((table, day))


async def _insert(driver: asyncpg.Connection, table: Table, lines: Sequence[bytes]) -> int:
    """Insert lines into a table. Returns how many events were new."""
    staging, columns = f"staging_{table.name}", ", ".join(table.columns.names)
    # Temporary and dropped by the transaction's end, so that it works behind a pooler that shares sessions. The CHECK
    # refuses what decode() refuses and the columns' types accept.
    await driver.execute(
        f"CREATE TEMPORARY TABLE {staging} (LIKE {table.name}, CHECK ({table.columns.conditions()})) ON COMMIT DROP"
    )
    begin = len(table.line_start)
    status = await driver.copy_to_table(
        staging,
        schema_name="pg_temp",
        columns=table.columns.names,
        # A view, because asyncpg takes bytes for the path of a file.
        source=memoryview(b"\n".join([line[begin:-1] for line in lines]) + b"\n"),
        # A line's values as JSON writes them.
        format="csv",
        delimiter=",",
        null="null",
        quote='"',
        escape="\\",
    )
    if _count(status) != len(lines):
        raise MergedLinesError
    return _count(
        await driver.execute(
            f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM pg_temp.{staging} ON CONFLICT DO NOTHING"  # noqa: S608
        )
    )


async def _note_use(driver: asyncpg.Connection, tables: Iterable[Table]) -> None:
    """Keep api_keys.last_used_at correct to the minute, without an UPDATE for each request.

    A row that another transaction is changing is left out: the next batch updates it.
    """
    events = " UNION ALL ".join(f"SELECT key_id, occurred_at FROM pg_temp.staging_{table.name}" for table in tables)  # noqa: S608
    await driver.execute(_NOTE_USE.format(events=events))


def _count(status: str) -> int:
    """Return the number at the end of a command's status, such as `COPY 12`."""
    return int(status.rpartition(" ")[2])
