"""TLS to PostgreSQL and Valkey over real sockets: what is verified, what goes out in clear, what operators read."""

import asyncio
import ssl
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy import text

from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from apps.platform_cli.embedded.valkey import EmbeddedValkey
from platform_app.auth.keys.store import DATABASE_ERRORS
from platform_app.config import Settings, load_settings, parse_database_url
from platform_app.config.connections import database_url
from platform_app.connection_failures import tls_failure
from platform_app.db import migrations
from platform_app.db.engine import make_engine, open_engine
from platform_app.ledger.spool.session import LedgerSession, make_ledger_engine
from platform_app.redis.clients import make_redis
from tests.conftest import Platform
from tests.support.commands.command_line import run_command
from tests.support.servers.network.tls.certificates import Authority
from tests.support.servers.network.tls.postgres_tls import postgres_direct_tls, postgres_tls_front
from tests.support.servers.valkey import tls_in_front

USER = "postgresql://postgres:pa55word@"


class World:
    """A CA that is trusted, one that is not, and certificates of both."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._authority = Authority()
        self.ca_file = self._authority.write(directory / "trusted.pem")
        self.other_ca_file = Authority("another CA").write(directory / "other.pem")

    def certificate(self, *names: str, minutes: int = 5) -> tuple[Path, Path]:
        return self._authority.issue(self._directory, *(names or ("127.0.0.1", "localhost")), minutes=minutes)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def settings_for(url: str, ca_file: Path | None = None) -> Settings:
    return load_settings(
        database_url=url, database_ca_file=ca_file, redis_url="redis://localhost", database_timeout_seconds=10
    )


async def is_encrypted(url: str, ca_file: Path | None = None) -> bool | None:
    """Connect and query; None if the front did not count (the embedded server cannot count)."""
    engine = make_engine(settings_for(url, ca_file))
    try:
        async with engine.connect() as connection:
            assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
            raw = await connection.get_raw_connection()
            transport = raw.driver_connection._transport  # type: ignore[union-attr]
            return transport.get_extra_info("ssl_object") is not None
    finally:
        await engine.dispose()


async def failure_of(url: str, ca_file: Path | None = None) -> str | None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - tls_failure says what is expected
        await is_encrypted(url, ca_file)
    assert "pa55word" not in repr(caught.value)
    return tls_failure(caught.value)


async def test_verified_database_connects_encrypted(postgres: EmbeddedPostgres, world: World) -> None:
    async with postgres_tls_front(postgres, world.certificate()) as front:
        place = f"{USER}127.0.0.1:{front.port}/postgres"
        for url, ca_file in (
            (f"{place}?sslmode=verify-full&sslrootcert={world.ca_file}", None),
            (f"{place}?sslmode=verify-ca&sslrootcert={world.ca_file}", None),
            (f"{place}?sslmode=require&sslrootcert={world.ca_file}", None),
            (f"{place}?sslmode=require", None),
            (f"{place}?sslmode=prefer", None),
            (place, world.ca_file),
            (f"{USER}localhost:{front.port}/postgres?sslmode=verify-full", world.ca_file),
        ):
            assert await is_encrypted(url, ca_file), url
        assert front.in_clear == []


async def test_unverified_database_is_refused_in_words(postgres: EmbeddedPostgres, world: World) -> None:
    for certificate, ca_file, expected in (
        (world.certificate("db.example"), world.ca_file, "its certificate is for another"),
        (world.certificate(minutes=-1), world.ca_file, "its certificate has expired"),
        (world.certificate(), world.other_ca_file, "its certificate comes from a CA that is not trusted"),
        (world.certificate(), None, "its certificate comes from a CA that is not trusted"),
    ):
        async with postgres_tls_front(postgres, certificate) as front:
            url = f"{USER}127.0.0.1:{front.port}/postgres?sslmode=verify-full"
            assert (await failure_of(url, ca_file) or "").startswith(expected)
            assert front.in_clear == []


async def test_verify_ca_accepts_another_host_name(postgres: EmbeddedPostgres, world: World) -> None:
    async with postgres_tls_front(postgres, world.certificate("db.example")) as front:
        url = f"{USER}127.0.0.1:{front.port}/postgres?sslmode=verify-ca"
        assert await is_encrypted(url, world.ca_file)
        assert "not trusted" in (await failure_of(url, world.other_ca_file) or "")


@pytest.mark.parametrize("mode", ["", "?sslmode=require", "?sslmode=verify-full"])
async def test_remote_database_without_tls_gets_no_byte(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(database_url, "is_local", lambda host: False)
    async with postgres_tls_front(postgres, None) as front:
        assert await failure_of(f"{USER}127.0.0.1:{front.port}/postgres{mode}") == "it does not offer TLS"
        assert front.in_clear == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PGSSLMODE", "disable"),
        ("PGSSLNEGOTIATION", "direct"),
        ("PGHOST", "db.invalid"),
        ("PGPORT", "1"),
        ("PGTARGETSESSIONATTRS", "standby"),
    ],
)
async def test_libpq_variables_do_not_change_the_target(
    postgres: EmbeddedPostgres, world: World, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    async with postgres_tls_front(postgres, world.certificate()) as front:
        assert await is_encrypted(f"{USER}127.0.0.1:{front.port}/postgres?sslmode=verify-full", world.ca_file)


async def test_client_certificate_is_presented(postgres: EmbeddedPostgres, world: World) -> None:
    certificate, key = world.certificate("client")
    async with postgres_tls_front(postgres, world.certificate(), client_ca=world.ca_file) as front:
        place = f"{USER}127.0.0.1:{front.port}/postgres?sslmode=verify-full&sslrootcert={world.ca_file}"
        assert await is_encrypted(f"{place}&sslcert={certificate}&sslkey={key}")
        with pytest.raises(Exception):  # noqa: PT011, B017 - a reset or an alert, as the handshake falls
            await is_encrypted(place)


async def test_direct_negotiation_connects(postgres: EmbeddedPostgres, world: World) -> None:
    async with postgres_direct_tls(postgres, world.certificate()) as port:
        url = f"{USER}127.0.0.1:{port}/postgres?sslmode=verify-full&sslnegotiation=direct"
        assert await is_encrypted(url, world.ca_file)


async def test_second_host_is_tried(postgres: EmbeddedPostgres, world: World) -> None:
    async with postgres_tls_front(postgres, world.certificate()) as front:
        url = f"{USER}127.0.0.1:1,localhost:{front.port}/postgres?target_session_attrs=read-write"
        assert await is_encrypted(url, world.ca_file)


async def test_no_host_that_takes_writes_is_a_database_error(postgres: EmbeddedPostgres) -> None:
    async with postgres_tls_front(postgres, None) as front:
        place = f"{USER}127.0.0.1:{front.port}/postgres?target_session_attrs=standby"
        engine = make_engine(settings_for(place))
        with pytest.raises(DATABASE_ERRORS):
            async with engine.connect():
                pass
        await engine.dispose()


async def test_unix_socket_needs_no_tls(database: str) -> None:
    assert await is_encrypted(f"{database}&sslmode=verify-full") is False


async def test_session_parameters_reach_the_server(database: str) -> None:
    target = parse_database_url(f"{database}&application_name=mine&options=-c%20work_mem%3D77kB")
    engine = open_engine(target, 10, purpose="test")
    async with engine.connect() as connection:
        shown = [
            (await connection.execute(text(f"SHOW {name}"))).scalar_one() for name in ("application_name", "work_mem")
        ]
    await engine.dispose()
    assert shown == ["mine-test", "77kB"]


async def test_ledger_and_migrations_verify_too(postgres: EmbeddedPostgres, empty_database: str, world: World) -> None:
    name = parse_database_url(empty_database).database
    async with postgres_tls_front(postgres, world.certificate()) as front:
        place = f"{USER}127.0.0.1:{front.port}/{name}"
        await asyncio.to_thread(migrations.upgrade, place, ca_file=world.ca_file)
        engine = make_ledger_engine(settings_for(place, world.ca_file))
        session = LedgerSession(engine)
        async with session.use(10) as driver:
            assert await driver.fetchval("SELECT count(*) FROM access_decisions") == 0
        await session.aclose()
        await engine.dispose()
        assert front.encrypted >= 2
        assert front.in_clear == []
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            await asyncio.to_thread(migrations.upgrade, place, ca_file=world.other_ca_file)
        assert "not trusted" in (tls_failure(caught.value) or "")


@pytest.mark.parametrize(
    "command", [("serve",), ("migrate", "status"), ("migrate", "up"), ("keys", "list"), ("check", "--no-live")]
)
async def test_command_names_the_certificate_problem(
    postgres: EmbeddedPostgres, platform: Platform, world: World, command: tuple[str, ...]
) -> None:
    async with postgres_tls_front(postgres, world.certificate(minutes=-1)) as front:
        environment = {
            **platform.environment,
            "PLATFORM_DATABASE_URL": f"{USER}127.0.0.1:{front.port}/platform",
            "PLATFORM_DATABASE_CA_FILE": str(world.ca_file),
        }
        done = await asyncio.to_thread(run_command, environment, *command)
    shown = done.stdout + done.stderr
    assert done.returncode == 1, shown
    assert "its certificate has expired" in shown
    assert "Traceback" not in shown
    assert "pa55word" not in shown


async def test_check_warns_of_an_unverified_database(platform: Platform) -> None:
    environment = {**platform.environment, "PLATFORM_DATABASE_URL": f"{USER}db.invalid/platform?sslmode=require"}
    done = await asyncio.to_thread(run_command, environment, "check", "--no-live")
    assert "warn  tls                      PLATFORM_DATABASE_URL says sslmode=require" in done.stdout


async def ping(url: str, ca_file: Path | None = None) -> bool:
    redis = make_redis(
        load_settings(
            database_url="postgresql://localhost/p", redis_url=url, redis_ca_file=ca_file, redis_timeout_ms=5000
        )
    )
    try:
        return bool(await redis.ping())
    finally:
        await redis.aclose()


async def test_redis_certificate_is_verified(valkey: EmbeddedValkey, world: World, tmp_path: Path) -> None:
    async with tls_in_front(valkey, tmp_path, world.certificate()) as (port, _):
        place = f"rediss://127.0.0.1:{port}/0"
        assert await ping(place, world.ca_file)
        assert await ping(f"{place}?ssl_ca_certs={world.ca_file}")
        assert await ping(f"{place}?ssl_cert_reqs=none")
        with pytest.raises(RedisConnectionError) as caught:
            await ping(place)
        assert "not trusted" in (tls_failure(caught.value) or "")


async def test_wrong_redis_certificate_is_refused_in_words(
    valkey: EmbeddedValkey, world: World, tmp_path: Path
) -> None:
    for certificate, expected in (
        (world.certificate("redis.example"), "its certificate is for another"),
        (world.certificate(minutes=-1), "its certificate has expired"),
    ):
        async with tls_in_front(valkey, tmp_path, certificate) as (port, _):
            with pytest.raises(RedisConnectionError) as caught:
                await ping(f"rediss://127.0.0.1:{port}/0", world.ca_file)
            assert (tls_failure(caught.value) or "").startswith(expected)
