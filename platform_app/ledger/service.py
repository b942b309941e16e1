"""The ledger of one process: a spool, its maintenance, the writer, and the maintenance of the partitions."""

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from platform_app.config import Settings
from platform_app.errors import ConfigurationError
from platform_app.ledger.events.event import AccessDecision, LedgerEvent, UsageRecord
from platform_app.ledger.events.intents import HEAD, PendingIntent
from platform_app.ledger.events.refusal_counts import RefusalCount, RefusalCounts
from platform_app.ledger.interfaces import Intent
from platform_app.ledger.shipping.orphan_charges import OrphanCharges, Settler
from platform_app.ledger.shipping.partitions import maintain_forever
from platform_app.ledger.shipping.shipper import Shipper
from platform_app.ledger.shipping.tables import retention_of
from platform_app.ledger.shipping.writer import LedgerWriter
from platform_app.ledger.spool.maintenance import SpoolMaintenance
from platform_app.ledger.spool.pending import PendingLines
from platform_app.ledger.spool.segments import PENDING, Orphans, list_directory
from platform_app.ledger.spool.session import LedgerSession, make_ledger_engine
from platform_app.ledger.spool.spool import Spool
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger

FLUSH_SECONDS = 1.5
"""The least time that the end of the process waits for the database. What is not shipped waits for the next start."""
STALL_SECONDS = 5.0
"""The end of the process does not wait longer for a database that takes no segment in this time."""

_log = get_logger("ledger")


class SpooledLedger:
    """A Ledger whose events go to a spool on disk."""

    def __init__(self, spool: Spool, pending: PendingLines, refusals_per_address: int) -> None:
        """`refusals_per_address`: requests without a key of one address and minute that are recorded one by one."""
        self._spool = spool
        self._pending = pending
        self._appended = metrics.LEDGER_APPENDED
        self.refusals = RefusalCounts(refusals_per_address, self._count_changed, self._count_ended)

    def admit(self) -> None:
        """See Ledger."""
        self._spool.admit()

    def problem(self) -> str | None:
        """See Ledger."""
        if self._spool.policy != "refuse":
            return None
        if self._spool.failure is not None:
            return f"the disk of the spool refuses writes: {self._spool.failure}"
        return "the spool is full" if self._spool.full else None

    def append(self, event: LedgerEvent) -> None:
        """See Ledger."""
        if isinstance(event, AccessDecision) and event.key_id is None and not self.refusals.take(event):
            return
        self._spool.append(event.line())
        self._appended.inc()
        if isinstance(event, UsageRecord) and event.cost_microusd:
            metrics.USAGE_COST.labels(event.provider, event.model).inc(event.cost_microusd / 1e6)

    def intend(self, record: UsageRecord, settlement: object = None) -> Intent:
        """See Ledger."""
        return PendingIntent(self._pending, record, settlement)

    def _count_changed(self, count: RefusalCount) -> None:
        metrics.LEDGER_COUNTED.labels("other" if count.other_addresses else "own").inc()
        line = count.event.line()
        if count.slot is None:
            count.slot = self._pending.put(line)
        else:
            self._pending.replace(count.slot, line)

    def _count_ended(self, count: RefusalCount) -> None:
        # The line is the same as the pending one: if the process dies in between, it is shipped twice and stored once.
        self._spool.append(count.event.line())
        self._appended.inc()
        if count.slot is not None:
            self._pending.clear(count.slot)


class _Tasks(NamedTuple):
    """The background tasks of a ledger."""

    writer: "asyncio.Task[None]"
    spool_maintenance: "asyncio.Task[None]"
    partitions: "asyncio.Task[None]"

    async def end(self) -> None:
        """Wait shortly for the tasks that use PostgreSQL, then cancel all."""
        await asyncio.wait([self.writer, self.partitions], timeout=0.2)
        for task in self:
            task.cancel()
        await asyncio.gather(*self, return_exceptions=True)


@asynccontextmanager
async def open_ledger(
    settings: Settings, settler: Settler | None = None, seconds_left: Callable[[], float] = lambda: 0.0
) -> AsyncIterator[SpooledLedger]:
    """Open the spool and start the background tasks. At the end, ship the events that are still in the spool.

    The process also starts while PostgreSQL is unavailable.

    Args:
        settings: the database and the spool.
        settler: charges the limits for calls of dead processes. Without one, these charges wait for a process that has
            one.
        seconds_left: called at the end: how long the process may still run. It ships for at least FLUSH_SECONDS.

    Raises:
        ConfigurationError: the spool directory cannot be used.
    """
    async with AsyncExitStack() as stack:
        spool = _open_spool(settings)
        stack.callback(spool.close)
        pending = PendingLines(spool.directory / f"{spool.owner}{PENDING}", HEAD)
        stack.callback(pending.close)
        ledger = SpooledLedger(spool, pending, settings.refusals_per_address_per_minute)
        orphans = Orphans(spool.directory, spool.owner)
        stack.callback(orphans.close)
        engine = make_ledger_engine(settings)
        stack.push_async_callback(engine.dispose)
        session, maintenance_session = LedgerSession(engine), LedgerSession(engine)
        stack.push_async_callback(session.aclose)
        stack.push_async_callback(maintenance_session.aclose)
        writer = LedgerWriter(spool, orphans, Shipper(session), retention_of(settings))
        spool.wake_writer = writer.wake
        charges = OrphanCharges(spool.directory, orphans, settler) if settler is not None else None
        maintenance = SpoolMaintenance(spool, orphans, settings.spool_fsync_seconds, charges, pending)
        maintenance.each_round = lambda: ledger.refusals.end_minute(datetime.now(UTC))
        partitions = maintain_forever(maintenance_session, retention_of(settings))
        tasks = _Tasks(
            asyncio.create_task(writer.run(), name="ledger-writer"),
            asyncio.create_task(maintenance.run(), name="ledger-spool-maintenance"),
            asyncio.create_task(partitions, name="ledger-partitions"),
        )
        try:
            yield ledger
        finally:
            ledger.refusals.end_minute()
            maintenance.stop()
            writer.stop()
            await asyncio.wait([tasks.spool_maintenance], timeout=FLUSH_SECONDS)
            await _flush(tasks.writer, writer, max(FLUSH_SECONDS, seconds_left()))
            # Tasks that still wait for PostgreSQL fail now, sooner than by a cancellation.
            session.terminate()
            maintenance_session.terminate()
            await tasks.end()
            _warn_of_rest(spool)


def _advice(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free space or inodes, raise the quota, or name a directory on another disk"
    return "check path and owner"


async def _flush(writing: "asyncio.Task[None]", writer: LedgerWriter, seconds: float) -> None:
    """Wait until the writer has shipped everything. Stop waiting after some seconds, or when it ships no segment."""
    deadline = time.monotonic() + seconds
    while not writing.done() and (left := deadline - time.monotonic()) > 0:
        shipped = writer.shipped
        await asyncio.wait([writing], timeout=min(left, STALL_SECONDS))
        if writer.shipped == shipped:
            return


def _warn_of_rest(spool: Spool) -> None:
    """Log how much the next process of this directory has to ship."""
    try:
        segments = list_directory(spool.directory).segments
    except OSError:
        return
    if waiting := sum(segment.size for segment in segments if segment.owner == spool.owner):
        _log.warning("ledger_spool_left", bytes=waiting)


def spool_problems(settings: Settings) -> list[str]:
    """Return why this process cannot write its spool; empty if it can. Leaves nothing behind but the directory."""
    try:
        _open_spool(settings).close()
    except ConfigurationError as error:
        return error.problems
    return []


def _open_spool(settings: Settings) -> Spool:
    try:
        return Spool(
            settings.spool_dir,
            max_bytes=settings.spool_max_bytes,
            policy=settings.spool_full_policy,
            keep_for_sync=settings.spool_fsync_seconds > 0,
        )
    except OSError as error:
        raise ConfigurationError(
            [f"PLATFORM_SPOOL_DIR ({settings.spool_dir}): cannot be written: {error.strerror}; {_advice(error)}"]
        ) from None
