"""Wait for a database that is not there yet when the gateway starts, with a bound."""

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_delay, wait_exponential_jitter

from platform_app.connection_failures import Failure
from platform_app.db.failures import database_failure
from platform_app.db.revisions import current_revision
from platform_app.observability.logging import get_logger

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 2.0
_ERRORS = (DBAPIError, PoolTimeout, TimeoutError, OSError)

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
    attempts = AsyncRetrying(
        retry=retry_if_exception(_may_pass),
        stop=stop_after_delay(seconds),
        # With jitter, so that replicas do not try in step.
        wait=wait_exponential_jitter(multiplier=FIRST_PAUSE_SECONDS, max=LONGEST_PAUSE_SECONDS),
        before_sleep=_NewCauses(seconds),
        sleep=sleep,
        reraise=True,
    )
    try:
        return await attempts(current_revision, engine)
    except _ERRORS as error:
        failure = database_failure(error)
        raise DatabaseNotUsableError(failure, seconds if failure.passes else None) from error


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, _ERRORS) and database_failure(error).passes


class _NewCauses:
    """Logs why the database cannot be used, once for each cause in turn."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._logged = ""

    def __call__(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if error is None:
            return
        failure = database_failure(error)
        if failure.cause != self._logged:
            self._logged = failure.cause
            _log.warning("dependency_awaited", dependency="database", reason=str(failure), seconds=self._seconds)
