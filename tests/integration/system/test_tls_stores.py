"""A gateway on a PostgreSQL and a Redis that take TLS connections only: real servers, verified certificates."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from platform_app.db import migrations
from tests.conftest import Platform
from tests.support.commands.command_line import run_command
from tests.support.gateway.process import Gateway
from tests.support.servers.network.tls.certificates import Authority
from tests.support.servers.network.tls.tls_stores import (
    TlsPostgres,
    postgres_programs,
    redis_program,
    tls_postgres,
    tls_redis,
)

PROGRAMS, REDIS = postgres_programs(), redis_program()

pytestmark = [
    pytest.mark.skipif(PROGRAMS is None, reason="PostgreSQL with TLS is not installed (Debian package postgresql)"),
    pytest.mark.skipif(REDIS is None, reason="Redis with TLS is not installed (Debian package redis-server)"),
]


@dataclass(frozen=True, slots=True)
class TlsStores:
    """Both servers, and the CA that signed their certificates."""

    postgres: TlsPostgres
    redis_url: str
    password: str
    ca_file: Path
    other_ca_file: Path


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsStores]:
    assert PROGRAMS is not None
    assert REDIS is not None
    directory, authority, password = tmp_path_factory.mktemp("tls"), Authority(), secrets.token_urlsafe(24)
    certificate = authority.issue(directory, "127.0.0.1", minutes=60)
    ca_file, other = authority.write(directory / "ca.pem"), Authority("another CA").write(directory / "other.pem")
    with tls_postgres(PROGRAMS, certificate, password) as postgres, tls_redis(REDIS, certificate, password) as port:
        migrations.upgrade(postgres.url(sslmode="verify-full", sslrootcert=str(ca_file)))
        yield TlsStores(postgres, f"rediss://:{password}@127.0.0.1:{port}/0", password, ca_file, other)


def on_tls(platform: Platform, stores: TlsStores, ca_file: Path) -> Platform:
    """Return the session's platform on these servers, with this CA."""
    url = stores.postgres.url(sslmode="verify-full", sslrootcert=str(ca_file))
    redis = {"PLATFORM_REDIS_URL": stores.redis_url, "PLATFORM_REDIS_CA_FILE": str(ca_file)}
    return Platform({**platform.environment, "PLATFORM_DATABASE_URL": url, **redis})


async def test_gateway_serves_on_tls_stores(
    platform: Platform, stores: TlsStores, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    """Keys, limits and records work; every connection to PostgreSQL is encrypted, and Redis takes no other."""
    secure = on_tls(platform, stores, stores.ca_file)
    key = secure.key("platform:chat")
    with Gateway(secure.environment, tmp_path) as gateway:
        response = await client.post(
            gateway.chat_url, json={"prompt": "hello"}, headers={"Authorization": f"Bearer {key}"}
        )
        assert response.status_code == 200
        assert "x-ratelimit-limit-requests" in response.headers
        assert (await client.get(f"{gateway.base_url}/readyz")).json()["status"] == "ready"
        connections = stores.postgres.query(
            "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_addr IS NOT NULL"
        )
        assert connections == "t"
    assert stores.postgres.query("SELECT count(*) FROM access_decisions WHERE status = 200") == "1"
    assert stores.password not in gateway.log_file.read_text()


@pytest.mark.parametrize("store", ["database", "redis"])
def test_check_names_untrusted_certificate(platform: Platform, stores: TlsStores, store: str) -> None:
    trusted, distrusted = on_tls(platform, stores, stores.ca_file), on_tls(platform, stores, stores.other_ca_file)
    wrong = {"database": "PLATFORM_DATABASE_URL", "redis": "PLATFORM_REDIS_CA_FILE"}[store]
    environment = {**trusted.environment, wrong: distrusted.environment[wrong]}
    result = run_command(environment, "check", "--no-live")
    assert result.returncode == 1
    line = next(line for line in result.stdout.splitlines() if store in line.lower())
    assert "certificate comes from a CA that is not trusted" in line
    assert stores.password not in result.stdout + result.stderr
