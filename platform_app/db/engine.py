"""One way to connect: bounded pool, bounded time, no parameters in exceptions, TLS as the URL says."""

import ssl
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from platform_app.config import DatabaseTarget, Settings, make_ssl_context
from platform_app.db.connections import OPTION, PoolRenewal

APPLICATION_NAME = "flowbiz-platform"


def make_engine(settings: Settings) -> AsyncEngine:
    """An engine that opens no connection until it is used.

    At most `database_pool_size` connections for this process, and no overflow, so that
    pool × workers × replicas is the whole truth. Waiting for one, connecting and each statement end after
    `database_timeout_seconds`.
    """
    timeout = settings.database_timeout_seconds
    return open_engine(
        settings.database,
        timeout,
        command_seconds=timeout,
        statement_cache=settings.database_statement_cache,
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=timeout,
        pool_recycle=1800,
    )


def make_probe_engine(settings: Settings) -> AsyncEngine:
    """An engine of one connection for readiness, so that probes take none from requests."""
    timeout = settings.database_timeout_seconds
    return open_engine(
        settings.database,
        timeout,
        purpose="readiness",
        command_seconds=timeout,
        statement_cache=settings.database_statement_cache,
        pool_size=1,
        max_overflow=0,
        pool_timeout=timeout,
    )


def open_engine(
    target: DatabaseTarget,
    connect_seconds: float,
    *,
    purpose: str = "",
    command_seconds: float | None = None,
    statement_cache: bool = True,
    **pool: Any,
) -> AsyncEngine:
    """An engine for a target.

    Args:
        target: where to connect.
        connect_seconds: for connecting, unless the URL says otherwise.
        purpose: added to the application name that the server shows.
        command_seconds: for each statement.
        statement_cache: keep prepared statements. PgBouncer in transaction mode cannot (docs/configuration.md).
        pool: SQLAlchemy's arguments for the pool.

    Raises:
        OSError: a certificate file was removed since the settings were read.
    """
    renewal = None if pool.get("poolclass") is NullPool else PoolRenewal(connect_seconds / 4)
    engine = create_async_engine(
        "postgresql+asyncpg://",
        execution_options={} if renewal is None else {OPTION: renewal},
        # A failed statement would otherwise print its parameters, digests among them.
        hide_parameters=True,
        connect_args={
            **_driver_arguments(target),
            "timeout": target.connect_seconds or connect_seconds,
            "command_timeout": command_seconds,
            "statement_cache_size": 100 if statement_cache else 0,
            "server_settings": _server_settings(target, purpose),
        },
        **pool,
    )
    (renewal or PoolRenewal(connect_seconds)).watch(engine, target.tcp)
    return engine


def _driver_arguments(target: DatabaseTarget) -> dict[str, Any]:
    """Everything that asyncpg would otherwise take from PG* variables is named here, but for user and password."""
    return {
        "host": list(target.hosts),
        "port": list(target.ports),
        "user": target.user,
        "password": target.password,
        "passfile": target.passfile,
        "database": target.database,
        "ssl": _tls(target),
        "direct_tls": target.tls.direct,
        "target_session_attrs": target.session_attributes,
    }


def _tls(target: DatabaseTarget) -> ssl.SSLContext | str | bool:
    """For `allow` and `prefer` the mode itself, since the driver then tries both ways."""
    mode = target.tls.mode
    if mode == "disable" or all(host.startswith("/") for host in target.hosts):
        return False
    return mode if mode in ("allow", "prefer") else make_ssl_context(target.tls)


def _server_settings(target: DatabaseTarget, purpose: str) -> dict[str, str]:
    name = target.application_name or APPLICATION_NAME
    settings = {"application_name": f"{name}-{purpose}" if purpose else name}
    return {**settings, "options": target.options} if target.options else settings
