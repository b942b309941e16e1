"""Wait for a database that is not there yet when the gateway starts, with a bound."""

import asyncio
import random
from collections.abc import Awaitable, Callable

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from platform_app.connection_failures import Failure
from platform_app.db.failures import database_failure
from platform_app.db.revisions import current_revision
from platform_app.observability.logging import get_logger

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 2.0

_log = get_logger("database")


class DatabaseNotUsableError(Exception):
    """The database did not become usable. `failure` names the cause and the next step."""

    def __init__(self, failure: Failure, seconds: float | None) -> None:
        waited = "" if seconds is None else f" after {seconds:g} s"
        super().__init__(f"The database cannot be used{waited}: {failure}.")
        self.failure = failure


async def revision_when_usable(
    engine: AsyncEngine, seconds: float, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> str | None:
    """Return the schema's revision as soon as the database responds; None for an empty database. Log each new cause.

    Raises:
        DatabaseNotUsableError: it did not respond within `seconds`, or waiting cannot help, as with a wrong password.
    """
    loop, pause, logged = asyncio.get_running_loop(), FIRST_PAUSE_SECONDS, ""
    until = loop.time() + seconds
    while True:
        try:
            return await current_revision(engine)
        except (DBAPIError, PoolTimeout, TimeoutError, OSError) as error:
            failure = database_failure(error)
        if not failure.passes:
            raise DatabaseNotUsableError(failure, None)
        if loop.time() >= until:
            raise DatabaseNotUsableError(failure, seconds)
        if failure.cause != logged:
            logged = failure.cause
            _log.warning("database_awaited", error=str(failure), seconds=seconds)
        await sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - so that replicas do not try in step
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
