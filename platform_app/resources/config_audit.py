"""Audit events of config reloads.

Each process that applies a changed file notes it. The first one that reaches PostgreSQL writes the event, and the
others find it there: workers and replicas share one event for one content. While PostgreSQL is down the events wait in
memory.
"""

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from platform_app.auth.keys.store import DATABASE_ERRORS
from platform_app.db.advisory_locks import AdvisoryLock
from platform_app.db.connections import begin
from platform_app.db.failures import database_failure
from platform_app.db.models import AuditEvent
from platform_app.observability.logging import get_logger
from platform_app.resources.config_changes import ConfigChange

ACTION = "config.reload"
TARGET = "config"
MAX_WAITING = 16
RETRY_SECONDS = 10.0
WRITE_SECONDS = 5.0

_log = get_logger("config")


class ConfigAudit:
    """Writes an audit event for each change of the config file's content."""

    def __init__(self, engine: AsyncEngine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._waiting: deque[ConfigChange] = deque(maxlen=MAX_WAITING)
        self._retry_at = 0.0
        self._failed = False
        self._actor = f"config:{socket.gethostname()}"

    def note(self, change: ConfigChange) -> None:
        """Note a change, which `write_waiting` writes. A reload of the same content is no change."""
        if change.sha256_before != change.sha256_after:
            self._waiting.append(change)
            self._retry_at = 0.0

    async def write_waiting(self) -> None:
        """Write the events that are due. Never raises: the log line has the change too."""
        while self._waiting and self._clock() >= self._retry_at:
            try:
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._write(self._waiting[0])
            except DATABASE_ERRORS as error:
                self._retry_at = self._clock() + RETRY_SECONDS
                if not self._failed:
                    _log.warning(
                        "config_reload_not_audited", error=str(database_failure(error)), waiting=len(self._waiting)
                    )
                self._failed = True
                return
            self._waiting.popleft()
            self._failed = False

    async def _write(self, change: ConfigChange) -> None:
        async with begin(self._engine) as connection:
            await connection.execute(select(func.pg_advisory_xact_lock(AdvisoryLock.CONFIG_AUDIT)))
            last = select(AuditEvent.after["sha256"].astext).where(AuditEvent.target == TARGET)
            written = (await connection.execute(last.order_by(AuditEvent.id.desc()).limit(1))).scalar()
            if written == change.sha256_after:
                return
            await connection.execute(
                insert(AuditEvent).values(
                    actor=self._actor,
                    action=ACTION,
                    target=TARGET,
                    before={"sha256": change.sha256_before},
                    after={"sha256": change.sha256_after, "changes": change.changes},
                    reason=change.reason,
                )
            )
