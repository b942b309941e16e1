"""The rehearsed restore of docs/upgrades.md: dump, drop, restore, and a spool that has more than the dump."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from apps.platform_cli.embedded.postgres import EmbeddedPostgres, find_binaries
from tests.conftest import Platform
from tests.support.gateway.http import until
from tests.support.gateway.keys_api import sql
from tests.support.gateway.migrate import migrate_up
from tests.support.gateway.process import Gateway
from tests.support.ledger.usage.totals import differences

pytestmark = pytest.mark.proof

KEYS = "SELECT * FROM api_keys JOIN api_key_secrets USING (key_id) ORDER BY key_id, digest"
AUDIT = "SELECT * FROM audit_events ORDER BY id"


@pytest.fixture
def databases(postgres: EmbeddedPostgres) -> Iterator[tuple[str, str]]:
    """The names of the database that is lost and of the one in its place."""
    names = "restore_lost", "restore_new"
    for name in names:
        postgres.create_database(name)
    yield names
    for name in names:
        postgres.drop_database(name)


def run(postgres: EmbeddedPostgres, program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs, as docs/upgrades.md does."""
    place = {key: values[0] for key, values in parse_qs(urlsplit(postgres.url("postgres")).query).items()}
    environment = {"PATH": os.environ["PATH"], "PGHOST": place["host"], "PGPORT": place["port"], "PGUSER": "postgres"}
    done = subprocess.run(
        [find_binaries() / program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


async def chat(client: httpx.AsyncClient, gateway: Gateway, key: str, count: int) -> list[str]:
    """Return the ids of the requests."""
    found = []
    for _ in range(count):
        response = await client.post(
            gateway.chat_url, json={"prompt": "hello", "model": "sim-ok"}, headers={"Authorization": f"Bearer {key}"}
        )
        assert response.status_code == 200, response.text
        found.append(response.headers["x-request-id"])
    return found


def recorded(url: str) -> list[list[str]]:
    """Return the ids of the requests in each of the ledger's tables."""
    statements = [
        "SELECT request_id FROM usage_records ORDER BY 1",
        "SELECT request_id FROM access_decisions WHERE key_id IS NOT NULL ORDER BY 1",
    ]
    return [[row["request_id"] for row in sql(url, statement)] for statement in statements]


async def test_restored_backup_serves_and_replays_the_spool(
    platform: Platform,
    postgres: EmbeddedPostgres,
    databases: tuple[str, str],
    client: httpx.AsyncClient,
    tmp_path: Path,
) -> None:
    """Keys and audit are as they were. The spool brings what the dump lacks, and lines that come twice are stored
    once."""
    lost, new = databases
    url, dump = postgres.url(lost), tmp_path / "platform.dump"
    migrate_up(url)
    environment = {**platform.environment, "PLATFORM_DATABASE_URL": url}
    key = Platform(environment).key("platform:chat")
    with Gateway(environment, tmp_path) as gateway:
        ids = await chat(client, gateway, key, 3)
        await until(lambda: recorded(url) == [sorted(ids)] * 2)
        before = [sql(url, KEYS), sql(url, AUDIT)]
        run(postgres, "pg_dump", "--format=custom", f"--file={dump}", lost)
        sql(url, "ALTER TABLE usage_records RENAME TO broken")  # from here on the records wait in the spool
        ids += await chat(client, gateway, key, 4)
    postgres.drop_database(lost)
    for segment in (tmp_path / "spool").glob("*.seg"):
        shutil.copy(segment, segment.with_name(segment.name.replace("-0", "-9", 1)))  # another sequence number
    run(postgres, "pg_restore", "--exit-on-error", f"--dbname={new}", str(dump))
    restored = postgres.url(new)
    assert [sql(restored, KEYS), sql(restored, AUDIT)] == before
    with Gateway({**environment, "PLATFORM_DATABASE_URL": restored}, tmp_path) as gateway:
        ids += await chat(client, gateway, key, 1)
        await until(lambda: all(map(set(ids).issubset, recorded(restored))))
        await until(lambda: not list((tmp_path / "spool").glob("*.seg")))
    assert recorded(restored) == [sorted(ids)] * 2
    assert await differences(restored) == []
