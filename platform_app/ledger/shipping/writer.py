"""The background writer: takes closed segments to PostgreSQL, oldest first, and removes what is committed."""

import asyncio
import random
import time
from pathlib import Path

from platform_app.ledger.events.event import is_event
from platform_app.ledger.shipping.batch import parse
from platform_app.ledger.shipping.shipper import Shipper
from platform_app.ledger.shipping.tables import Retention
from platform_app.ledger.spool.segments import ASIDE, LINE_VERSION, Orphans, Segment, list_directory
from platform_app.ledger.spool.session import DatabaseUnavailableError
from platform_app.ledger.spool.spool import Spool
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger

SHIP_SECONDS = 0.5
"""How long an event waits at most while PostgreSQL is available."""
MAX_BACKOFF_SECONDS = 5.0
MAX_ASIDE_BYTES = 64 * 1024 * 1024
"""What all `*.bad` files may take together; lines past it are only counted."""

_log = get_logger("ledger")


class LedgerWriter:
    """Ships this process's own segments and those of the dead owners that it adopted."""

    def __init__(self, spool: Spool, orphans: Orphans, shipper: Shipper, retention: Retention) -> None:
        self._spool = spool
        self._orphans = orphans
        self._shipper = shipper
        self._retention = retention
        self._wake = asyncio.Event()
        self._stopping = False
        self._failures = 0
        self.shipped = 0
        """Segments that this process has shipped."""

    def wake(self) -> None:
        """Ship now: there is a full segment."""
        self._wake.set()

    def stop(self) -> None:
        """Ship once more, then end."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Ship until stopped, and then once more. While PostgreSQL is unavailable, the pauses grow to 5 s."""
        last = False
        while not last:
            await self._pause()
            last = self._stopping
            try:
                await self.ship_pending()
            except DatabaseUnavailableError as error:
                self._failed(error.why)
            except OSError as error:
                self._failed(f"{type(error).__name__} at the spool")
            except Exception as error:  # noqa: BLE001 - a bug here must not end the writing
                _log.exception("ledger_writer_bug")
                self._failed(type(error).__name__)
            else:
                self._recovered()

    async def ship_pending(self) -> int:
        """Ship every closed segment. Returns their number.

        Raises:
            DatabaseUnavailableError: segments that were not shipped stay.
        """
        if self._failures == 0:  # else an outage would leave a small segment for each attempt
            self._spool.roll()
        segments = await self._pending()
        if not segments and self._failures:
            self._spool.roll()
            segments = await self._pending()
        for segment in segments:
            await self._ship(segment)
        return len(segments)

    async def _pending(self) -> list[Segment]:
        listing = await asyncio.to_thread(list_directory, self._spool.directory)
        return [
            segment
            for segment in listing.segments
            if (segment.owner == self._spool.owner and not self._spool.is_current(segment))
            or segment.owner in self._orphans.owners
        ]

    async def _ship(self, segment: Segment) -> None:
        try:
            data = await asyncio.to_thread(segment.path.read_bytes)
        except FileNotFoundError:
            return  # another worker dropped it, for want of room
        parsed = await parse(data, self._retention, current=segment.version == LINE_VERSION)
        started = time.perf_counter()
        rejected = await self._shipper.ship(parsed.batch)
        metrics.LEDGER_BATCH_SECONDS.observe(time.perf_counter() - started)
        refused = [line for line in rejected if is_event(line)]
        undecodable = [*parsed.bad, *(line for line in rejected if not is_event(line))]
        torn = [parsed.torn] if parsed.torn else []
        if aside := [*undecodable, *refused, *torn]:
            await asyncio.to_thread(_set_aside, segment.path, aside)
        await asyncio.to_thread(segment.path.unlink, missing_ok=True)
        self._spool.removed(segment.size)
        self.shipped += 1
        counts = {"undecodable": len(undecodable), "refused": len(refused), "torn": len(torn)}
        for reason, count in counts.items():
            if count:
                metrics.LEDGER_BAD_LINES.labels(reason).inc(count)
                _log.error("ledger_lines_set_aside", reason=reason, lines=count, segment=segment.path.name)
        if parsed.expired:
            metrics.LEDGER_DROPPED.labels("expired").inc(parsed.expired)
            _log.warning("ledger_lines_expired", lines=parsed.expired, segment=segment.path.name)

    async def _pause(self) -> None:
        seconds = SHIP_SECONDS
        if self._failures:
            longest = min(MAX_BACKOFF_SECONDS, SHIP_SECONDS * 2 ** min(self._failures - 1, 10))
            seconds = longest * random.uniform(0.5, 1.0)  # noqa: S311 - so that workers do not try in step
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
                while self._failures and not self._stopping:  # a full segment is no reason to try sooner
                    self._wake.clear()
                    await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _failed(self, why: str) -> None:
        metrics.LEDGER_WRITER_FAILURES.inc()
        if not self._failures:
            _log.warning("ledger_shipping_failed", why=why)
        self._failures += 1

    def _recovered(self) -> None:
        if self._failures:
            self._failures = 0
            _log.warning("ledger_shipping_recovered")


def _set_aside(path: Path, lines: list[bytes]) -> None:
    """Write lines beside their segment, all at once, so that shipping it again writes the same file again."""
    if list_directory(path.parent).aside_bytes > MAX_ASIDE_BYTES:
        return
    aside = path.with_suffix(ASIDE)
    aside.touch(mode=0o600)
    aside.write_bytes(b"\n".join(lines) + b"\n")
