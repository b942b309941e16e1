"""What the commands that read the database share: an engine for the command's duration, and messages for failures."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncEngine

from platform_app.auth.keys.store import DATABASE_ERRORS
from platform_app.config import load_settings
from platform_app.db.engine import make_engine
from platform_app.db.failures import database_failure
from platform_app.errors import AuthUnavailable


def read_database(work: Callable[[AsyncEngine], Awaitable[None]], timeout_seconds: float | None = None) -> None:
    """Run `work`, whose statements have a timeout of `timeout_seconds`, or that of the settings.

    Raises:
        AuthUnavailable: the database does not respond, or lacks the tables.
    """

    async def main() -> None:
        settings = load_settings()
        if timeout_seconds is not None:
            settings = settings.model_copy(update={"database_timeout_seconds": timeout_seconds})
        engine = make_engine(settings)
        try:
            await work(engine)
        finally:
            await engine.dispose()

    try:
        asyncio.run(main())
    except DATABASE_ERRORS as error:
        raise AuthUnavailable(f"The database cannot be used: {database_failure(error)}.") from None


def write_lines(entries: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines to stdout."""
    lines = b"".join(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE) for entry in entries)
    sys.stdout.buffer.write(lines)
    sys.stdout.buffer.flush()
