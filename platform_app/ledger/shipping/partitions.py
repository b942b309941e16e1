"""Daily partitions: made ahead, and dropped whole when retention ends, so that nothing ever deletes records.

The statements are functions in the database (migrations 0002 and 0003), which run as the owner of the tables and check
their bounds: the runtime role may add days and drop old ones, and nothing else.
"""

import asyncio
import random
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from platform_app.db.advisory_locks import AdvisoryLock
from platform_app.db.failures import database_failure
from platform_app.ledger.shipping.tables import TABLES, USAGE_RECORDS, Retention
from platform_app.ledger.spool.session import REFUSED_DATA, DatabaseUnavailableError, LedgerSession
from platform_app.observability.logging import get_logger

DAYS_AHEAD = 7
MAINTENANCE_SECONDS = 3600.0
RETRY_SECONDS = 60.0
_DEADLINE_SECONDS = 30.0

_log = get_logger("ledger")


@dataclass(frozen=True, slots=True)
class MaintenanceReport:
    """What one run did."""

    ran: bool
    """False if another process was doing it."""
    created: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


async def maintain(session: LedgerSession, retention: Retention, today: date | None = None) -> MaintenanceReport:
    """Make the partitions of today and the days ahead, and drop those of days before the retention's first.

    The usage totals of such days go with their records.

    The process that gets the lock does it. The others need not wait, because the work is the same.

    Raises:
        DatabaseUnavailableError: it could not be done.
    """
    today = today or datetime.now(UTC).date()
    days = [today + timedelta(days=ahead) for ahead in range(DAYS_AHEAD + 1)]
    before = {table: today - timedelta(days=retention[table]) for table in TABLES}
    try:
        async with session.use(_DEADLINE_SECONDS) as driver, driver.transaction():
            # Released by the transaction's end, which works behind a pooler that shares sessions.
            if not await driver.fetchval("SELECT pg_try_advisory_xact_lock($1)", AdvisoryLock.PARTITION_MAINTENANCE):
                return MaintenanceReport(ran=False)
            created = [
                await driver.fetchval("SELECT ledger_create_partition($1, $2)", table.name, day)
                for table in TABLES
                for day in days
            ]
            dropped = [
                row[0]
                for table in TABLES
                for row in await driver.fetch("SELECT ledger_drop_partitions($1, $2)", table.name, before[table])
            ]
            await driver.execute("SELECT usage_drop_totals($1)", before[USAGE_RECORDS])
    except REFUSED_DATA as error:
        raise DatabaseUnavailableError(str(database_failure(error))) from error
    return MaintenanceReport(True, tuple(name for name in created if name is not None), tuple(dropped))


async def maintain_forever(session: LedgerSession, retention: Retention) -> None:
    """Maintain the partitions at once, then about every hour; a minute later after a failure. Runs until cancelled."""
    failing = False
    while True:
        pause = MAINTENANCE_SECONDS
        try:
            report = await maintain(session, retention)
            failing = False
            if report.created or report.dropped:
                _log.info("ledger_maintained", created=list(report.created), dropped=list(report.dropped))
        except DatabaseUnavailableError as error:
            pause = RETRY_SECONDS
            if not failing:
                failing = True
                _log.warning("ledger_maintenance_failed", why=error.why)
        except Exception:  # noqa: BLE001 - a bug here must not end the maintenance: without partitions no row is stored
            pause = RETRY_SECONDS
            _log.exception("ledger_maintenance_bug")
        finally:
            await session.aclose()  # an hour is too long to keep a connection for
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - so that workers do not meet
