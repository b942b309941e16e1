"""What one `keys` command works with."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from platform_app.auth.keys.records import KeyFilter, KeyRecord
from platform_app.auth.keys.store import DATABASE_ERRORS, MAX_PAGE
from platform_app.config import Settings, load_config
from platform_app.db.failures import database_failure
from platform_app.errors import AuthUnavailable, ConfigurationError, SecretError
from platform_app.resources.key_admin import KeyAdmin, open_key_admin

T = TypeVar("T")


def with_keys(settings: Settings, work: Callable[[KeyAdmin], Awaitable[T]]) -> T:
    """Run `work` with the keys, and return its result.

    Raises:
        ConfigurationError: the pepper cannot be read.
        AuthUnavailable: the database does not respond, or lacks the tables.
    """
    config = load_config(settings)

    async def main() -> T:
        async with open_key_admin(settings, config=config) as admin:
            return await work(admin)

    try:
        return asyncio.run(main())
    except SecretError as error:
        raise ConfigurationError([str(error)]) from None
    except DATABASE_ERRORS as error:
        raise AuthUnavailable(f"The database cannot be used: {database_failure(error)}.") from None


async def all_keys(admin: KeyAdmin, wanted: KeyFilter) -> list[KeyRecord]:
    """Return every key that matches, newest first."""
    records: list[KeyRecord] = []
    cursor = None
    while True:
        page = await admin.keys.list(wanted, only_owner=None, limit=MAX_PAGE, cursor=cursor)
        records += page.keys
        cursor = page.next_cursor
        if cursor is None:
            return records
