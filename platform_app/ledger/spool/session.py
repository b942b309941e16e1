"""One connection to PostgreSQL whose every use ends by a deadline, also if the server is frozen.

asyncpg's own timeouts and cancellation send the server a cancel request over a second connection and wait for it. A
frozen server never responds. Here the deadline cuts the connection instead, and each task that waits on it fails at
once.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import NullPool

from platform_app.config import Settings
from platform_app.db.engine import open_engine
from platform_app.db.failures import database_failure

REFUSED_DATA = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    OverflowError,
    ValueError,
    TypeError,
)
"""The server is available and does not accept these values. Of the last three, asyncpg cannot encode the values."""


class DatabaseUnavailableError(Exception):
    """PostgreSQL did not run a statement."""

    @property
    def why(self) -> str:
        """The cause and the next step, and no value."""
        return str(self)


def make_ledger_engine(settings: Settings) -> AsyncEngine:
    """Return an engine beside the requests' pool, so that the ledger never takes a connection from a request."""
    return open_engine(
        settings.database,
        settings.database_timeout_seconds,
        purpose="ledger",
        statement_cache=settings.database_statement_cache,
        poolclass=NullPool,
    )


class LedgerSession:
    """A connection that is opened when it is needed and kept until it fails."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._connection: AsyncConnection | None = None
        self._driver: Any = None

    @asynccontextmanager
    async def use(self, seconds: float) -> AsyncIterator[Any]:
        """Yield asyncpg's connection for at most `seconds`.

        Raises:
            DatabaseUnavailableError: anything failed but the data; the next use opens another connection.
            REFUSED_DATA: the values are not for this table; the transaction is rolled back.
        """
        try:
            # The outer limit covers connecting, and is a second net for the rest.
            async with asyncio.timeout(seconds + 1):
                driver = await self._connected()
                cut = asyncio.get_running_loop().call_later(seconds, driver.terminate)
                try:
                    yield driver
                finally:
                    cut.cancel()
        except REFUSED_DATA:
            raise
        except Exception as error:
            # Not only errors of the database: asyncpg also raises errors of its inside when a connection is cut.
            await self.aclose()
            raise DatabaseUnavailableError(str(database_failure(error))) from error
        except BaseException:
            await self.aclose()
            raise

    def terminate(self) -> None:
        """Cut the connection; tasks that wait on it fail."""
        if self._driver is not None:
            self._driver.terminate()

    async def aclose(self) -> None:
        """Drop the connection without waiting for the server."""
        connection, driver, self._connection, self._driver = self._connection, self._driver, None, None
        if driver is not None:
            driver.terminate()
        if connection is not None:
            with contextlib.suppress(Exception):
                await connection.invalidate()
            with contextlib.suppress(Exception):
                await connection.close()

    async def _connected(self) -> Any:
        if self._driver is None or self._driver.is_closed():
            await self.aclose()
            self._connection = await self._engine.connect()
            raw = await self._connection.get_raw_connection()
            self._driver = raw.driver_connection
        return self._driver
