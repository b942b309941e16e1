"""The previous release and this one beside each other, on the schema of either, under load."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.conftest import Platform
from tests.support.deploy.load import Load, load_on
from tests.support.deploy.previous_release import previous_release, previous_revision, write_release
from tests.support.gateway.http import until
from tests.support.gateway.keys_api import sql
from tests.support.gateway.migrate import migrate_down, migrate_up
from tests.support.gateway.process import Gateway

pytestmark = pytest.mark.proof

REQUESTS = 10
"""Of each kind in each phase, at least."""


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    checkout = tmp_path / "previous"
    checkout.mkdir()
    commit = previous_release()
    assert commit is not None  # else the file is not collected
    write_release(commit, checkout)
    return checkout


@asynccontextmanager
async def served(gateway: Gateway, key: str, loads: list[Load]) -> AsyncIterator[None]:
    """Send load from the gateway's start to its stop."""
    await asyncio.to_thread(gateway.start)
    try:
        async with load_on(gateway.port, key, stream_model="sim-ok", model="sim-ok", streams=1, rate=5) as load:
            loads.append(load)
            yield
    finally:
        await asyncio.to_thread(gateway.stop)


async def serves_more(load: Load) -> None:
    """Wait until each kind of client has been served often since now."""
    goal = {kind: load.done[kind] + REQUESTS for kind in ("streams", "requests")}
    await until(lambda: bool(load.failures) or all(load.done[kind] >= goal[kind] for kind in goal))
    assert load.failures == []


def recorded(database: str, table: str) -> tuple[int, int]:
    """Return the number of rows, and of different requests among them."""
    [found] = sql(database, f"SELECT count(*) AS rows, count(DISTINCT request_id) AS requests FROM {table}")
    return found["rows"], found["requests"]


async def test_versions_serve_on_each_others_schema(
    platform: Platform, empty_database: str, previous: Path, tmp_path: Path
) -> None:
    """No request fails while the schema changes in either direction, and each request is recorded once."""
    migrate_up(empty_database)
    environment = {**platform.environment, "PLATFORM_DATABASE_URL": empty_database}
    key = Platform(environment).key("platform:chat")
    migrate_down(empty_database, previous_revision())

    def gateway(name: str, checkout: Path | None) -> Gateway:
        spool = {"PLATFORM_SPOOL_DIR": str(tmp_path / name)}
        return Gateway({**environment, **spool}, tmp_path, checkout=checkout)

    loads: list[Load] = []
    async with AsyncExitStack() as stack:
        async with served(gateway("spool-previous", previous), key, loads):
            await serves_more(loads[0])
            await asyncio.to_thread(migrate_up, empty_database)
            await stack.enter_async_context(served(gateway("spool-this", None), key, loads))
            await asyncio.gather(*map(serves_more, loads))
        await asyncio.to_thread(migrate_down, empty_database, previous_revision())
        await serves_more(loads[1])
        await asyncio.to_thread(migrate_up, empty_database)
        await serves_more(loads[1])
    sent = sum(load.done.total() for load in loads)
    assert [load.failures for load in loads] == [[], []]
    for table in ("access_decisions", "usage_records"):
        assert recorded(empty_database, table) == (sent, sent)
