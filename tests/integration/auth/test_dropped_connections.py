"""PostgreSQL connections that a firewall dropped without a message to either side."""

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from platform_app.auth.keys.records import Actor, NewKey
from platform_app.auth.keys.store import KeyStore
from platform_app.config import Settings, load_settings
from platform_app.db import connections
from platform_app.db.connections import begin, close_engines, connect
from platform_app.db.engine import make_engine, make_probe_engine
from platform_app.db.migrations import current_revision, head_revision
from platform_app.resources.key_admin import open_key_admin
from platform_app.secret_store.env import EnvSecretStore
from tests.support.servers.network.firewall import Firewall, firewall_before

POOL = 5


@pytest.fixture
async def firewall(postgres: EmbeddedPostgres) -> AsyncIterator[Firewall]:
    async with firewall_before(str(postgres.socket_directory / ".s.PGSQL.5432")) as running:
        yield running


def settings_behind(firewall: Firewall, database: str, **fields: object) -> Settings:
    """The first of two attempts waits for a quarter of the timeout; the second has the rest."""
    parts = urlsplit(database)
    credentials = parts.netloc.rpartition("@")[0] or "postgres"
    url = f"postgresql://{credentials}@127.0.0.1:{firewall.port}{parts.path}?sslmode=disable"
    return load_settings(
        database_url=url,
        redis_url="redis://127.0.0.1:1/0",
        database_pool_size=POOL,
        **{"database_timeout_seconds": 20, **fields},
    )


async def close(engine: AsyncEngine) -> None:
    """Cut the idle connections, which may lead nowhere: an orderly end would wait for a response."""
    await engine.get_execution_options()[connections.OPTION].renew(engine, engine.pool)
    await engine.dispose()


@pytest.fixture(autouse=True)
def renewed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "RENEW_SECONDS", 0.0)


async def test_lookups_survive_dropped_connections(firewall: Firewall, database: str) -> None:
    """All connections of the pool are dropped at once; more requests than connections wait, and none fails."""
    engine = make_engine(settings_behind(firewall, database, database_timeout_seconds=4))
    keys = KeyStore(engine)
    try:
        await asyncio.gather(*(keys.lookup("a" * 12) for _ in range(POOL * 4)))
        assert firewall.opened == POOL
        firewall.drop_connections()
        async with asyncio.timeout(300):
            found = await asyncio.gather(*(keys.lookup("a" * 12) for _ in range(POOL * 10)))
        assert found == [None] * (POOL * 10)
    finally:
        await close(engine)


async def test_key_is_created_after_dropped_connections(firewall: Firewall, database: str) -> None:
    """A statement that writes is not sent twice: a ping finds out first."""
    settings = settings_behind(firewall, database, database_timeout_seconds=4)
    pepper = EnvSecretStore({"PLATFORM_API_KEY_PEPPER": f"1:{secrets.token_hex(32)}"})
    async with open_key_admin(settings, pepper) as admin:
        peppers = await admin.peppers.current()
        new = NewKey("dropped", "dropped", ["platform:chat"], "test")
        await admin.lifecycle.create(new, peppers, Actor("tests"))
        firewall.drop_connections()
        async with asyncio.timeout(300):
            record, _ = await admin.lifecycle.create(new, peppers, Actor("tests"))
        assert (await admin.keys.get(record.key_id, only_owner=None)).name == "dropped"


async def test_readiness_survives_dropped_connection(firewall: Firewall, database: str) -> None:
    engine = make_probe_engine(settings_behind(firewall, database, database_timeout_seconds=4))
    try:
        assert await current_revision(engine) == head_revision()
        firewall.drop_connections()
        async with asyncio.timeout(300):
            assert await current_revision(engine) == head_revision()
    finally:
        await close(engine)


async def test_idle_connection_is_replaced(firewall: Firewall, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine(settings_behind(firewall, database))
    try:
        for idle_seconds, opened in ((60.0, 1), (60.0, 1), (-1.0, 2)):
            monkeypatch.setattr(connections, "IDLE_SECONDS", idle_seconds)
            async with connect(engine) as connection:
                assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
            assert firewall.opened == opened
    finally:
        await engine.dispose()


async def test_connection_has_keepalives(firewall: Firewall, database: str) -> None:
    settings = settings_behind(firewall, database)
    url = settings.database_url.get_secret_value()
    for query, idle in (("", 30), ("&keepalives_idle=7&keepalives_interval=2&keepalives_count=4", 7)):
        engine = make_engine(settings.model_copy(update={"database_url": type(settings.database_url)(url + query)}))
        try:
            async with engine.connect() as connection:
                raw = await connection.get_raw_connection()
                tcp = raw.driver_connection._transport.get_extra_info("socket")  # type: ignore[union-attr]
                assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == idle
        finally:
            await engine.dispose()


async def test_server_ends_transaction_of_lost_client(
    firewall: Firewall, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock is free afterwards, although neither side was notified that the connection is gone."""
    monkeypatch.setattr(connections, "LOST_TRANSACTION_SECONDS", 1)
    lost = make_engine(settings_behind(firewall, database, database_timeout_seconds=2))
    direct = load_settings(database_url=database, redis_url="redis://127.0.0.1:1/0", database_timeout_seconds=60)
    other = make_engine(direct)
    try:
        transaction = begin(lost)
        connection = await transaction.__aenter__()
        await connection.execute(text("SELECT pg_advisory_xact_lock(4711)"))
        firewall.drop_connections()
        async with asyncio.timeout(300), begin(other) as waiting:
            await waiting.execute(text("SELECT pg_advisory_xact_lock(4711)"))
        with pytest.raises((DBAPIError, TimeoutError)):
            await connection.execute(text("SELECT 1"))
    finally:
        await close_engines(lost)
        await close_engines(other)


async def test_engine_closes_although_its_connections_lead_nowhere(
    firewall: Firewall, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each connection would wait for a response by itself."""
    monkeypatch.setattr(connections, "CLOSE_SECONDS", 0.2)
    engine = make_engine(settings_behind(firewall, database, database_timeout_seconds=60))
    await asyncio.gather(*(KeyStore(engine).lookup("a" * 12) for _ in range(POOL * 4)))
    firewall.drop_connections()
    async with asyncio.timeout(300):
        await close_engines(engine)
