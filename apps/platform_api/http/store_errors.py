"""A database that is down, as the caller of a management route is told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from platform_app.auth.keys.store import DATABASE_ERRORS
from platform_app.errors import AuthUnavailable, SecretError
from platform_app.observability.logging import get_logger

_log = get_logger("http")


@asynccontextmanager
async def database_errors() -> AsyncIterator[None]:
    """Turns what the database raises when it is down, and a missing pepper, into 503 auth_unavailable."""
    try:
        yield
    except (*DATABASE_ERRORS, SecretError) as error:
        _log.warning("key_store_unavailable", error=type(error).__name__)
        raise AuthUnavailable("The key store does not answer right now. Try again shortly.", retry_after=2) from None
