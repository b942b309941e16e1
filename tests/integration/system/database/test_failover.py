"""A whole gateway when its database is lost without a message: a second host takes over, or the gateway is stopped."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from tests.conftest import Platform
from tests.support.gateway.http import log_line, until
from tests.support.gateway.keys_api import sql
from tests.support.gateway.process import Gateway
from tests.support.servers.network.firewall import firewall_before

REQUESTS = 20
RECORDED = "SELECT count(*) AS rows, count(DISTINCT request_id) AS ids FROM usage_records WHERE key_id = :key_id"


async def test_lost_database_host_fails_no_request(
    platform: Platform, postgres: EmbeddedPostgres, database: str, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    """No caller is cached, so each request reads the database. The pooled connections to the first host respond no
    more, and the second host takes over. No request fails, and each is recorded once."""
    record, key = platform.new_key("platform:chat")
    headers = {"Authorization": f"Bearer {key}"}
    socket = str(postgres.socket_directory / ".s.PGSQL.5432")
    async with firewall_before(socket) as first, firewall_before(socket) as second:
        hosts = f"127.0.0.1:{first.port},127.0.0.1:{second.port}"
        settings = {
            "PLATFORM_DATABASE_URL": f"postgresql://postgres@{hosts}{urlsplit(database).path}"
            "?sslmode=disable&target_session_attrs=read-write",
            # The first attempt has a quarter of it (docs/configuration/network.md); the rest is for the new pool.
            "PLATFORM_DATABASE_TIMEOUT_SECONDS": "40",
            "PLATFORM_AUTH_CACHE_TTL_SECONDS": "0",
            "PLATFORM_AUTH_STALE_SECONDS": "0",  # else known callers are accepted without the database
        }
        gateway = Gateway({**platform.environment, **settings}, tmp_path)

        async def chat() -> int:
            body = {"prompt": "hello", "model": "sim-ok"}
            return (await client.post(gateway.chat_url, json=body, headers=headers, timeout=300)).status_code

        def recorded() -> dict[str, object]:
            return dict(sql(database, RECORDED, key_id=record.key_id)[0])

        # In threads: the firewalls run in this event loop.
        await asyncio.to_thread(gateway.start)
        try:
            assert set(await asyncio.gather(*(chat() for _ in range(REQUESTS)))) == {200}
            # A transaction that is interrupted keeps its locks until the server notices.
            await until(lambda: recorded() == {"rows": REQUESTS, "ids": REQUESTS})
            assert second.opened == 0
            first.lose_host()
            assert set(await asyncio.gather(*(chat() for _ in range(REQUESTS)))) == {200}
            assert second.opened > 0
            await log_line(gateway, "database_pool_renewed")
            await until(lambda: recorded() == {"rows": 2 * REQUESTS, "ids": 2 * REQUESTS})
        finally:
            await asyncio.to_thread(gateway.stop)


async def test_stop_while_database_hangs_keeps_records(
    platform: Platform, postgres: EmbeddedPostgres, database: str, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    """SIGTERM ends the gateway within its grace, and the next start writes what the spool has, each record once."""
    record, key = platform.new_key("platform:chat")
    headers = {"Authorization": f"Bearer {key}"}

    async def chat(gateway: Gateway) -> int:
        body = {"prompt": "hello", "model": "sim-ok"}
        return (await client.post(gateway.chat_url, json=body, headers=headers, timeout=300)).status_code

    def recorded() -> dict[str, object]:
        return dict(sql(database, RECORDED, key_id=record.key_id)[0])

    async with firewall_before(str(postgres.socket_directory / ".s.PGSQL.5432")) as firewall:
        url = f"postgresql://postgres@127.0.0.1:{firewall.port}{urlsplit(database).path}?sslmode=disable"
        gateway = Gateway({**platform.environment, "PLATFORM_DATABASE_URL": url}, tmp_path)
        await asyncio.to_thread(gateway.start)
        assert [await chat(gateway) for _ in range(REQUESTS)] == [200] * REQUESTS
        await until(lambda: recorded() == {"rows": REQUESTS, "ids": REQUESTS})
        firewall.hang()
        assert [await chat(gateway) for _ in range(REQUESTS)] == [200] * REQUESTS
        assert await asyncio.to_thread(gateway.stop) == 0
        assert recorded() == {"rows": REQUESTS, "ids": REQUESTS}
    with Gateway(platform.environment, tmp_path):
        await until(lambda: recorded() == {"rows": 2 * REQUESTS, "ids": 2 * REQUESTS})
