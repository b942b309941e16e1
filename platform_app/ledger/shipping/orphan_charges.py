"""Charges the limits for calls that a process had begun when it died: as much as it had reserved for them.

The charges are in `<owner>.charges`, which recovery.py wrote. Sending a charge again changes nothing, so the file is
removed when all of them are sent.
"""

import asyncio
import time
from pathlib import Path
from typing import Protocol

import orjson

from platform_app.errors import LimiterUnavailable
from platform_app.ledger.spool.segments import CHARGES, Orphans
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger

MAX_AGE_SECONDS = 6 * 86_400
"""Charges that could not be sent within this time are dropped. The limiter remembers longer what it has charged."""

_log = get_logger("ledger")


class Settler(Protocol):
    """Charges what a dead process had reserved."""

    async def settle(self, event_id: str, settlement: object) -> bool:
        """Charge once, however often this is called with the same event id; False where it was charged before.

        Raises:
            LimiterUnavailable: try again later.
            ValueError: the settlement is not valid.
        """
        ...


class OrphanCharges:
    """Sends the charges of the dead processes whose spools this process adopted."""

    def __init__(self, directory: Path, orphans: Orphans, settler: Settler) -> None:
        self._directory = directory
        self._orphans = orphans
        self._settler = settler

    async def send(self) -> None:
        """Send the charges that there are. Those that the limiter cannot take now stay for the next time."""
        for owner in self._orphans.adopted():
            path = self._directory / f"{owner}{CHARGES}"
            try:
                age = time.time() - path.stat().st_mtime
                lines = (await asyncio.to_thread(path.read_bytes)).splitlines()
            except FileNotFoundError:
                continue
            if age > MAX_AGE_SECONDS:
                metrics.LEDGER_ORPHAN_CHARGES.labels("expired").inc(len(lines))
                _log.error("ledger_orphan_charges_expired", owner=owner, calls=len(lines))
            elif not await self._send(lines):
                return
            path.unlink(missing_ok=True)

    async def _send(self, lines: list[bytes]) -> bool:
        """Return whether all of them are charged."""
        for line in lines:
            try:
                members = orjson.loads(line)
                charged = await self._settler.settle(members["event_id"], members["settlement"])
            except LimiterUnavailable:
                return False
            except (ValueError, KeyError, TypeError):
                metrics.LEDGER_ORPHAN_CHARGES.labels("invalid").inc()
                continue
            metrics.LEDGER_ORPHAN_CHARGES.labels("charged" if charged else "repeated").inc()
        return True
