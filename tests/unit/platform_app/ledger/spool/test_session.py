"""The ledger's connection: kept while it works, dropped when it fails, and cut at its deadline."""

import asyncio
from typing import Any, cast

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import NullPool

from platform_app.ledger.spool.session import DatabaseUnavailableError, LedgerSession, make_ledger_engine
from tests.support.ledger.database import settings_for
from tests.support.timing.virtual_time import now, virtual_time


class Driver:
    """asyncpg's connection."""

    def __init__(self) -> None:
        self.cut = asyncio.Event()
        self.cuts = 0

    async def execute(self) -> None:
        """A statement without a response."""
        await self.cut.wait()
        raise ConnectionResetError("cut")

    def terminate(self) -> None:
        self.cuts += 1
        self.cut.set()

    def is_closed(self) -> bool:
        return self.cut.is_set()


class Connection:
    """SQLAlchemy's connection. `broken`: it cannot even be dropped."""

    def __init__(self, broken: bool) -> None:
        self.driver_connection = Driver()
        self.ended: list[str] = []
        self._broken = broken

    async def get_raw_connection(self) -> "Connection":
        return self

    async def invalidate(self) -> None:
        self._end("invalidate")

    async def close(self) -> None:
        self._end("close")

    def _end(self, how: str) -> None:
        self.ended.append(how)
        if self._broken:
            raise ConnectionResetError("already gone")


class Engine:
    """Opens connections; with `frozen`, it never does."""

    def __init__(self) -> None:
        self.opened: list[Connection] = []
        self.frozen = self.broken = False

    async def connect(self) -> Connection:
        if self.frozen:
            await asyncio.Event().wait()
        self.opened.append(Connection(self.broken))
        return self.opened[-1]


class Database:
    """A session on a fake engine."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.session = LedgerSession(cast(AsyncEngine, self.engine))

    async def connect(self) -> Connection:
        """Use the session once."""
        async with self.session.use(5) as driver:
            assert driver is self.engine.opened[-1].driver_connection
        return self.engine.opened[-1]


DROPPED = ["invalidate", "close"]


@virtual_time
async def test_connection_is_kept_and_not_cut_after_its_use() -> None:
    database = Database()
    first = await database.connect()
    await asyncio.sleep(60)
    assert first.driver_connection.cuts == 0, "the deadline of a use ends with it"
    assert await database.connect() is first


@virtual_time
async def test_deadline_cuts_a_statement_without_a_response() -> None:
    database, began = Database(), now()
    with pytest.raises(DatabaseUnavailableError) as caught:
        async with database.session.use(5) as driver:
            await driver.execute()
    assert now() == began + 5
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    [first] = database.engine.opened
    assert first.ended == DROPPED
    assert await database.connect() is not first


@virtual_time
async def test_connecting_has_a_deadline_too() -> None:
    database, began = Database(), now()
    database.engine.frozen = True
    with pytest.raises(DatabaseUnavailableError):
        async with database.session.use(5):
            pytest.fail("there is no connection")
    assert now() == began + 6
    database.engine.frozen = False
    await database.connect()


@virtual_time
async def test_refused_values_keep_the_connection() -> None:
    database = Database()
    first = await database.connect()
    with pytest.raises(ValueError, match="not a date"):
        async with database.session.use(5):
            raise ValueError("not a date")
    assert first.driver_connection.cuts == 0
    assert await database.connect() is first


@pytest.mark.parametrize("broken", [False, True])
@virtual_time
async def test_failed_connection_is_dropped_whatever_it_says(broken: bool) -> None:
    database = Database()
    database.engine.broken = broken
    first = await database.connect()
    with pytest.raises(DatabaseUnavailableError) as caught:
        async with database.session.use(5):
            raise ConnectionRefusedError
    assert str(caught.value) == caught.value.why != ""
    assert (first.driver_connection.cuts, first.ended) == (1, DROPPED)
    await database.session.aclose()
    assert (first.driver_connection.cuts, first.ended) == (1, DROPPED), "once"


@virtual_time
async def test_cancelled_use_drops_the_connection() -> None:
    """The statement may still run, so no other use may get its connection."""
    database = Database()

    async def use() -> None:
        async with database.session.use(5) as driver:
            await driver.execute()

    task = asyncio.create_task(use())
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    [first] = database.engine.opened
    assert (first.driver_connection.cuts, first.ended) == (1, DROPPED)


@virtual_time
async def test_closed_connection_is_replaced_and_dropped() -> None:
    database = Database()
    first = await database.connect()
    first.driver_connection.cut.set()
    second = await database.connect()
    assert second is not first
    assert first.ended == DROPPED


@virtual_time
async def test_terminate_fails_those_that_wait() -> None:
    database = Database()
    database.session.terminate()  # there is nothing to cut
    failed: list[Any] = []

    async def use() -> None:
        try:
            async with database.session.use(3600) as driver:
                await driver.execute()
        except DatabaseUnavailableError as error:
            failed.append(error)

    task = asyncio.create_task(use())
    await asyncio.sleep(1)
    database.session.terminate()
    await task
    assert len(failed) == 1
    assert now() == 1001


def test_ledger_takes_no_connection_of_the_pool() -> None:
    engine = make_ledger_engine(settings_for("postgresql://a:b@localhost/c"))
    assert isinstance(engine.pool, NullPool)
