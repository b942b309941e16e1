"""The spool's maintenance: measures the directory, applies its bound, retries writes, adopts orphans, syncs.

It is another task than the writer's, because it must continue while the writer waits for PostgreSQL.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable

from platform_app.ledger.shipping.orphan_charges import OrphanCharges
from platform_app.ledger.spool.pending import PendingLines
from platform_app.ledger.spool.recovery import Recovered, recover
from platform_app.ledger.spool.segments import Listing, Orphans, drop_oldest, list_directory
from platform_app.ledger.spool.spool import Spool
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger

ROUND_SECONDS = 0.5
ADOPT_SECONDS = 2.0

_log = get_logger("ledger")


class SpoolMaintenance:
    """Maintains the directory twice a second."""

    def __init__(
        self,
        spool: Spool,
        orphans: Orphans,
        sync_seconds: float,
        charges: OrphanCharges | None = None,
        pending: PendingLines | None = None,
    ) -> None:
        """
        Args:
            spool: this process's own.
            orphans: the dead owners that this process adopted.
            sync_seconds: how often appended lines are forced to disk; 0 leaves it to the system.
            charges: sends what dead owners' calls are charged.
            pending: the pending lines of this process.
        """
        self._spool = spool
        self._orphans = orphans
        self._sync_seconds = sync_seconds
        self._sync_at = time.monotonic() + sync_seconds
        self._adopt_at = time.monotonic()
        self._charges = charges
        self._pending = pending
        self.each_round: Callable[[], None] = lambda: None
        """Called twice a second."""
        self._dropping = False
        self._broken = False
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """End after the round that is running."""
        self._stopped.set()

    async def run(self) -> None:
        """Maintain the directory until stopped."""
        while not self._stopped.is_set():
            try:
                await self.run_once()
                self._broken = False
            except OSError as error:
                if not self._broken:
                    _log.error("ledger_spool_unreadable", why=error.strerror)
                self._broken = True
            except Exception:  # noqa: BLE001 - a bug here must not end the maintenance
                _log.exception("ledger_spool_maintenance_bug")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ROUND_SECONDS):
                    await self._stopped.wait()

    async def run_once(self) -> None:
        """Do all of it once. Raises OSError if the directory cannot be read."""
        self._restore_files()
        self._spool.retry()
        self.each_round()
        mark = self._spool.mark()
        listing = await asyncio.to_thread(list_directory, self._spool.directory)
        self._spool.measured(listing, mark)
        await self._apply_bound(listing)
        self._show(listing)
        if time.monotonic() >= self._adopt_at:
            self._adopt_at = time.monotonic() + ADOPT_SECONDS
            await self._adopt(listing)
        if self._sync_seconds and time.monotonic() >= self._sync_at:
            await asyncio.to_thread(self._spool.sync, self._spool.to_sync())
            self._sync_at = time.monotonic() + self._sync_seconds

    def _restore_files(self) -> None:
        """Make removed files of this process again; the spool does so for its segments."""
        # What prevents it also makes the next line or the listing fail, and these report it.
        with contextlib.suppress(OSError):
            self._spool.keep_ownership()
            if self._pending is not None:
                self._pending.restore()

    async def _adopt(self, listing: Listing) -> None:
        recovered: list[Recovered] = []

        def take_over(owner: str) -> None:
            if (found := recover(self._spool.directory, owner, time.time_ns() // 1_000_000)) is not None:
                recovered.append(found)

        if adopted := await asyncio.to_thread(self._orphans.adopt, listing, take_over):
            _log.info("ledger_spools_adopted", owners=adopted)
        for each in recovered:
            _report(each)
        if self._charges is not None:
            await self._charges.send()

    async def _apply_bound(self, listing: Listing) -> None:
        excess = self._spool.excess()
        if not excess:
            self._dropping = False
            return
        if not any(segment.closed for segment in listing.segments):
            self._spool.roll()  # a bound as small as a segment: the next round drops it
            return
        lines, size = await asyncio.to_thread(drop_oldest, listing, excess)
        self._spool.removed(size)
        metrics.LEDGER_DROPPED.labels("spool_full").inc(lines)
        if not self._dropping:
            self._dropping = True
            _log.error("ledger_dropping_oldest", lines=lines, bytes=size)

    def _show(self, listing: Listing) -> None:
        metrics.LEDGER_SPOOL_BYTES.set(listing.size)
        metrics.LEDGER_SPOOL_MAX_BYTES.set(self._spool.max_bytes)
        waiting = [segment for segment in listing.segments if segment.size]
        oldest = max(0.0, time.time() - waiting[0].created_ms / 1000) if waiting else 0.0
        metrics.LEDGER_OLDEST_SECONDS.set(oldest)


def _report(recovered: Recovered) -> None:
    metrics.LEDGER_INTERRUPTED.inc(len(recovered.calls))
    for record in recovered.calls:
        if record.cost_microusd:
            metrics.USAGE_COST.labels(record.provider, record.model).inc(record.cost_microusd / 1e6)
    if recovered.unreadable:
        metrics.LEDGER_BAD_LINES.labels("torn").inc(recovered.unreadable)
    if recovered.calls or recovered.unreadable:
        _log.warning(
            "ledger_calls_interrupted",
            owner=recovered.owner,
            calls=len(recovered.calls),
            ended=recovered.ended,
            unreadable=recovered.unreadable,
            uncharged=recovered.uncharged,
        )
