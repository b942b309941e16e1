"""A real primary and its streaming replica: the primary dies and the replica is promoted; a gateway on the replica."""

import asyncio
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from platform_app.db import migrations
from tests.conftest import Platform
from tests.support.commands.command_line import run_command
from tests.support.gateway.http import until
from tests.support.gateway.keys_api import sql
from tests.support.gateway.process import Gateway
from tests.support.servers.standby import standby_of

DATABASE = "replicated"
REQUESTS = 20
RECORDED = "SELECT count(*) AS rows, count(DISTINCT request_id) AS ids FROM usage_records WHERE key_id = :key_id"


class Pair:
    """A primary and its replica, in a directory that any user may traverse."""

    def __init__(self, directory: Path) -> None:
        self.primary = EmbeddedPostgres(directory / "primary" / "data", settings={"fsync": "off"})
        self.primary.start()
        self.primary.create_database(DATABASE)
        migrations.upgrade(self.primary.url(DATABASE))
        self.standby = standby_of(self.primary, directory)

    def url(self, *servers: EmbeddedPostgres) -> str:
        """Return the URL that names these servers in this order."""
        hosts = ",".join(quote(str(server.socket_directory), safe="/") for server in servers)
        return f"postgresql://postgres@/{DATABASE}?host={hosts}&port={','.join(['5432'] * len(servers))}"

    def lose_primary(self, how: str) -> None:
        """Kill it, so that its clients get no message; or demote it, so that it keeps its connections."""
        if how == "killed":
            assert self.primary._child is not None
            self.primary._child.send(signal.SIGKILL)
        else:
            self.primary._sql("ALTER SYSTEM SET default_transaction_read_only = on")
            self.primary._sql("SELECT pg_reload_conf()")

    def promote(self) -> None:
        """Let the replica become the primary."""
        [row] = sql(self.standby.url(DATABASE), "SELECT pg_promote(true, 300) AS promoted")
        assert row["promoted"]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with tempfile.TemporaryDirectory(prefix="fb") as directory:
        made = Pair(Path(directory))
        yield made
        made.standby.stop()
        made.primary.stop()


@pytest.mark.parametrize("how", ["killed", "demoted"])
async def test_promoted_replica_gets_each_record_once(
    platform: Platform, pair: Pair, client: httpx.AsyncClient, tmp_path: Path, how: str
) -> None:
    """Known callers are served without a database, and what they did is recorded once a primary is there again. No
    pooled connection to the former primary stays in use."""
    on_primary = Platform({**platform.environment, "PLATFORM_DATABASE_URL": pair.url(pair.primary)})
    record, key = on_primary.new_key("platform:chat")
    administrator = {"Authorization": f"Bearer {on_primary.key('platform:*')}"}
    url = f"{pair.url(pair.primary, pair.standby)}&target_session_attrs=read-write"

    async def chat(text: str = key) -> int:
        body, headers = {"prompt": "hello", "model": "sim-ok"}, {"Authorization": f"Bearer {text}"}
        return (await client.post(gateway.chat_url, json=body, headers=headers, timeout=300)).status_code

    def recorded(server: EmbeddedPostgres) -> dict[str, object]:
        return dict(sql(server.url(DATABASE), RECORDED, key_id=record.key_id)[0])

    with Gateway({**platform.environment, "PLATFORM_DATABASE_URL": url}, tmp_path) as gateway:
        assert [await chat() for _ in range(REQUESTS)] == [200] * REQUESTS
        await until(lambda: recorded(pair.standby) == {"rows": REQUESTS, "ids": REQUESTS})
        pair.lose_primary(how)
        assert [await chat() for _ in range(REQUESTS)] == [200] * REQUESTS
        await asyncio.to_thread(pair.promote)
        await until(lambda: recorded(pair.standby) == {"rows": 2 * REQUESTS, "ids": 2 * REQUESTS})
        created = await client.post(
            f"{gateway.base_url}/v1/platform/api-keys",
            json={"name": "later", "owner": "tests", "scopes": ["platform:chat"]},
            headers=administrator,
        )
        assert created.status_code == 201
        assert await chat(created.json()["key"]) == 200
        ready = (await client.get(f"{gateway.base_url}/readyz")).json()["checks"]
        assert [check["ok"] for check in ready if check["name"] == "database"] == [True]


async def test_read_only_database_is_reported(
    platform: Platform, pair: Pair, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    """A gateway on a replica serves, and says that it can record nothing; `check` fails."""
    key = Platform({**platform.environment, "PLATFORM_DATABASE_URL": pair.url(pair.primary)}).key()
    why = "nothing can be recorded: it is read-only (a replica, or default_transaction_read_only); name the primary in"
    here = {**platform.environment, "PLATFORM_DATABASE_URL": pair.url(pair.standby)}
    headers = {"Authorization": f"Bearer {key}"}
    with Gateway(here, tmp_path) as gateway:
        chat = await client.post(gateway.chat_url, json={"prompt": "hello", "model": "sim-ok"}, headers=headers)
        assert chat.status_code == 200
        ready = await client.get(f"{gateway.base_url}/readyz")
        checks = {check["name"]: check for check in ready.json()["checks"]}
    assert ready.status_code == 200
    assert (checks["database"]["ok"], checks["schema"]["ok"]) == (False, True)
    assert checks["database"]["detail"].startswith(why)
    done = await asyncio.to_thread(run_command, {**here, "COLUMNS": "200"}, "check", "--no-live")
    assert done.returncode == 1
    assert f"FAIL  database                 {why}" in done.stdout
