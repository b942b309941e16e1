"""One way to connect: bounded pool, bounded time, no parameters in exceptions."""

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from platform_app.config import Settings


def make_engine(settings: Settings) -> AsyncEngine:
    """An engine that opens no connection until it is used.

    At most `database_pool_size` connections for this process, and no overflow, so that
    pool × workers × replicas is the whole truth. Waiting for one, connecting and each statement end after
    `database_timeout_seconds`.
    """
    timeout = settings.database_timeout_seconds
    return create_async_engine(
        settings.database_url.get_secret_value(),
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=timeout,
        pool_recycle=1800,
        # A failed statement would otherwise print its parameters, digests among them.
        hide_parameters=True,
        connect_args={
            "timeout": timeout,
            "command_timeout": timeout,
            # PgBouncer in transaction mode cannot keep prepared statements (docs/configuration.md).
            "statement_cache_size": 100 if settings.database_statement_cache else 0,
            "server_settings": {"application_name": "flowbiz-platform"},
        },
    )
