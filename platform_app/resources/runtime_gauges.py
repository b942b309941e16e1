"""Gauges of a worker that are read from time to time: memory, pools, caches, the schema, certificates.

No request waits for them. The figures are up to SAMPLE_SECONDS old; schema and certificates up to SLOW_SECONDS.
"""

import asyncio
import os
from collections.abc import Sized
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool

from platform_app.config import PlatformConfig, Settings
from platform_app.db.revisions import current_revision, head_revision, known_revisions
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger
from platform_app.resources.certificates import expiries

SAMPLE_SECONDS = 1.0
SLOW_SECONDS = 60.0
_NEVER = float("inf")
_STATM = Path("/proc/self/statm")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

_log = get_logger("resources")


class RuntimeGauges:
    """Sets the gauges of this process until it is cancelled."""

    def __init__(
        self,
        settings: Settings,
        config: PlatformConfig,
        engines: tuple[AsyncEngine, AsyncEngine],
        key_cache: Sized,
        providers: ConnectionPool,
    ) -> None:
        """
        Args:
            settings: where certificates are.
            config: the same for providers.
            engines: the pool of the first is shown; the second reads the schema's revision, so that this takes no
                connection from requests.
            key_cache: the verified keys.
            providers: the connections to providers.
        """
        self.config = config
        """The configuration in use; replaced when a changed one is applied."""
        self._settings = settings
        self._engine, self._probe_engine = engines
        self._key_cache = key_cache
        self._providers = providers
        self._outdated = known_revisions() - {head_revision()}
        metrics.SCHEMA_AT_HEAD.set(1)  # until the first look: an unknown schema is not an outdated one
        self._hosts: set[str] = set()
        self._files: set[str] = set()

    async def run(self) -> None:
        """Sample every second; schema and certificates every minute, and certificates after a change of the config."""
        loop = asyncio.get_running_loop()
        slow_at, shown = loop.time(), self.config
        while True:
            try:
                self.sample()
                if loop.time() >= slow_at or self.config is not shown:
                    slow_at, shown = loop.time() + SLOW_SECONDS, self.config
                    await self.sample_certificates()
                    await self.sample_schema()
            except Exception:  # noqa: BLE001 - a bug in one gauge must not end the others
                _log.exception("runtime_gauges_failed")
            await asyncio.sleep(SAMPLE_SECONDS)

    def sample(self) -> None:
        """Set the gauges that need no input or output. Must run in the event loop."""
        metrics.KEY_CACHE_ENTRIES.set(len(self._key_cache))
        if (resident := resident_bytes()) is not None:
            metrics.WORKER_RESIDENT_BYTES.set(resident)
        metrics.EVENT_LOOP_TASKS.set(len(asyncio.all_tasks()))
        pool = self._engine.pool
        if isinstance(pool, QueuePool):
            metrics.DATABASE_POOL_CONNECTIONS.labels("in_use").set(pool.checkedout())
            metrics.DATABASE_POOL_CONNECTIONS.labels("idle").set(pool.checkedin())
        in_use, idle = self._providers.connections_by_host()
        self._hosts |= in_use.keys() | idle.keys()  # a host whose connections are closed is shown as 0
        for host in self._hosts:
            metrics.PROVIDER_POOL_CONNECTIONS.labels(host, "in_use").set(in_use[host])
            metrics.PROVIDER_POOL_CONNECTIONS.labels(host, "idle").set(idle[host])

    async def sample_schema(self) -> None:
        """Set whether the schema is at this version's head, or newer as in a rolling update. While PostgreSQL is down,
        the last value stays."""
        try:
            revision = await current_revision(self._probe_engine)
        except (SQLAlchemyError, OSError, TimeoutError):
            return  # other metrics and /readyz report the outage
        metrics.SCHEMA_AT_HEAD.set(revision is not None and revision not in self._outdated)

    async def sample_certificates(self) -> None:
        """Set when each certificate file expires."""
        found = await asyncio.to_thread(expiries, self._settings, self.config)
        for file, expiry in found.items():
            metrics.CERTIFICATE_EXPIRY_SECONDS.labels(file).set(expiry)
        for file in self._files - found.keys():  # not used any more; a series of a worker cannot be removed
            metrics.CERTIFICATE_EXPIRY_SECONDS.labels(file).set(_NEVER)
        self._files |= found.keys()


def resident_bytes() -> int | None:
    """Return this process's resident memory, or None where the system has no /proc."""
    try:
        return int(_STATM.read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return None
