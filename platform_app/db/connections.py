"""Pooled connections that a firewall may drop without a message to either side (Azure after 4 minutes idle, AWS's
network load balancer after 350 s).

Three measures: TCP keepalives, so that no connection is idle for the network; a connection that was idle for
IDLE_SECONDS is replaced before it is used; and a statement without a response in a quarter of the timeout is sent once
more on a new connection, after the pool was renewed. Only then is the database called unavailable.

The server does not notice a dropped connection either. `LIMIT_LOST_TRANSACTION` makes it end a transaction whose client
is lost, which would otherwise keep its locks for hours.

`ask_twice` does the last for statements that read, which may run twice. `connect` and `begin` ask for a ping in that
way and then hand out the connection, also for statements that write.

A server that was demoted may keep its connections and refuse to write. Therefore `begin` renews the pool if the server
is read-only, so that the next connection is made to the host that accepts writes now.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from platform_app.config import TcpOptions
from platform_app.observability.event_loop.own_stalls import finished_within
from platform_app.observability.logging import get_logger

IDLE_SECONDS = 60.0
RENEW_SECONDS = 5.0
"""Shortest time between two renewals, so that a slow database does not get new connections all the time."""
CLOSE_SECONDS = 1.0
"""Longest orderly end of a pool. Each dropped connection would wait for a response until TCP gives up."""
LOST_TRANSACTION_SECONDS = 15
"""A transaction that waits for its client for longer is ended by the server."""
LIMIT_LOST_TRANSACTION = """
    SELECT set_config('idle_in_transaction_session_timeout', '{seconds}s', true),
        set_config('tcp_keepalives_idle', '{seconds}', true), set_config('tcp_keepalives_interval', '5', true),
        set_config('tcp_keepalives_count', '3', true)
"""
"""Limits one transaction, and not the session, which a pooler may share. The keepalives notice a client that was lost
during a COPY, when the server waits for data and not for a statement."""
OPTION = "platform_pool_renewal"
"""The engine's execution option that holds its PoolRenewal."""

IS_READ_ONLY = "SELECT current_setting('transaction_read_only') = 'on'"

T = TypeVar("T")
_REACHED: ContextVar[list[Any] | None] = ContextVar("reached", default=None)
"""The connections that an attempt of `ask_twice` got from the pool."""
_log = get_logger("database")


class ServerReadOnly(OSError):
    """A first attempt met a server that does not write; the second one gets a new pool."""


class PoolRenewal:
    """Knows the connections of an engine's pool, and replaces all of them at once."""

    def __init__(self, first_seconds: float) -> None:
        """`first_seconds`: how long the first of two attempts waits for a response."""
        self.first_seconds = first_seconds
        self._idle: WeakSet[Any] = WeakSet()
        self._doubted: WeakSet[Any] = WeakSet()
        self._used: WeakSet[Any] = WeakSet()
        self._renewed_at = float("-inf")
        self._abandoned: set[asyncio.Future[Any]] = set()

    def watch(self, engine: AsyncEngine, tcp: TcpOptions) -> None:
        """Set the options of each new connection, and note which connections are idle."""
        pool_events = engine.sync_engine

        @event.listens_for(pool_events, "connect")
        def connected(dbapi_connection: Any, _record: Any) -> None:
            tcp.apply(dbapi_connection.driver_connection._transport.get_extra_info("socket"))

        @event.listens_for(pool_events, "checkout")
        def checked_out(dbapi_connection: Any, record: Any, _proxy: Any) -> None:
            driver = dbapi_connection.driver_connection
            self._idle.discard(driver)
            idle_since = record.info.pop("idle_since", None)
            if idle_since is not None and time.monotonic() - idle_since > IDLE_SECONDS:
                driver.terminate()  # an orderly end would wait for a server that may not be there
                raise DisconnectionError("idle for too long")
            self._used.add(driver)
            if (reached := _REACHED.get()) is not None:
                reached.append(driver)

        @event.listens_for(pool_events, "checkin")
        def checked_in(dbapi_connection: Any, record: Any) -> None:
            if dbapi_connection is None:  # it was invalidated
                return
            driver = dbapi_connection.driver_connection
            self._used.discard(driver)
            record.info["idle_since"] = time.monotonic()
            if driver in self._doubted:
                driver.terminate()
            else:
                self._idle.add(driver)

    async def renew(self, engine: AsyncEngine, pool: Any) -> None:
        """Replace the pool, unless it is no longer `pool`: another task has replaced it. Idle connections are cut,
        those in use when they are returned."""
        if engine.pool is not pool or time.monotonic() - self._renewed_at < RENEW_SECONDS:
            return
        self._renewed_at = time.monotonic()
        self._doubted.update(self._used)
        idle, self._idle = list(self._idle), WeakSet()
        await engine.dispose(close=False)
        for driver in idle:
            driver.terminate()
        if connections := len(idle) + len(self._doubted):  # a server that refuses new ones has none to replace
            _log.warning("database_pool_renewed", connections=connections)

    def cut(self) -> None:
        """Cut the idle connections without waiting for the server."""
        idle, self._idle = list(self._idle), WeakSet()
        for driver in idle:
            driver.terminate()

    def abandon(self, task: "asyncio.Future[Any]") -> None:
        """Cancel an attempt without waiting: closing its connection may take seconds."""
        task.cancel()
        self._abandoned.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: "asyncio.Future[Any]") -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()


async def ask_twice(engine: AsyncEngine, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Return the result of `ask`, which may run twice. Raises what the second attempt raises."""
    return await ask_again(engine, lambda _: ask())


async def ask_again(engine: AsyncEngine, ask: Callable[[bool], Coroutine[Any, Any, T]]) -> T:
    """Like ask_twice; `ask` gets whether a second attempt may follow, and raises ServerReadOnly only then."""
    renewal: PoolRenewal | None = engine.get_execution_options().get(OPTION)
    if renewal is None:  # an engine that keeps no connections
        return await ask(False)
    pool, reached = engine.pool, list[Any]()
    token = _REACHED.set(reached)
    task = asyncio.ensure_future(ask(True))
    _REACHED.reset(token)
    try:
        # Without a connection it waits for a place in the pool, or for a new connection: neither hangs in an old one.
        if await finished_within(task, renewal.first_seconds) or not reached:
            return await task
    except PoolTimeout:
        if engine.pool is pool:
            raise
    except (DBAPIError, TimeoutError, OSError) as error:
        if isinstance(error, DBAPIError) and not error.connection_invalidated:
            raise
    finally:
        if not task.done():
            renewal.abandon(task)
    await renewal.renew(engine, pool)
    return await ask(False)


@asynccontextmanager
async def connect(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Yield a connection that has just responded."""
    connection = await ask_twice(engine, lambda: _responding(engine, writes=False))
    async with _closing(connection):
        yield connection


@asynccontextmanager
async def begin(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Yield a connection that has just responded, in a transaction that the server ends if this process is lost. If no
    server accepts writes, the first statement that writes fails."""
    connection = await ask_again(engine, lambda first: _responding(engine, writes=first))
    async with _closing(connection), connection.begin():
        await connection.exec_driver_sql(limit_of_lost_transaction())
        yield connection


def limit_of_lost_transaction() -> str:
    """Return the statement that limits a transaction whose client is lost."""
    return LIMIT_LOST_TRANSACTION.format(seconds=LOST_TRANSACTION_SECONDS)


async def close_engines(*engines: AsyncEngine) -> None:
    """Close the engines' pools in order and at the same time. Connections whose server does not respond in time are
    cut."""
    await asyncio.gather(*map(_close_engine, engines))


async def _close_engine(engine: AsyncEngine) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await engine.dispose()
    except TimeoutError:
        renewal: PoolRenewal | None = engine.get_execution_options().get(OPTION)
        if renewal is not None:
            renewal.cut()
        _log.warning("database_connections_cut")


async def _responding(engine: AsyncEngine, *, writes: bool) -> AsyncConnection:
    connection = await engine.connect()
    try:
        read_only = (await connection.exec_driver_sql(IS_READ_ONLY)).scalar_one()
        if writes and read_only:
            raise ServerReadOnly
        await connection.rollback()
    except BaseException:
        await connection.close()
        raise
    return connection


@asynccontextmanager
async def _closing(connection: AsyncConnection) -> AsyncIterator[None]:
    try:
        yield
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(connection.close())
