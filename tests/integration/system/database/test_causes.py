"""What operators read when PostgreSQL fails: the cause of each failure, from real servers where they can be had."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from platform_app.auth.keys.store import DATABASE_ERRORS
from platform_app.config import load_settings
from platform_app.db.engine import make_engine
from platform_app.db.failures import database_failure
from tests.support.gateway.keys_api import sql
from tests.support.servers.network.ports import free_port
from tests.support.servers.network.tls.certificates import Authority
from tests.support.servers.network.tls.tls_stores import TlsPostgres, postgres_programs, tls_postgres

ROLES = """
    CREATE ROLE causes_plain LOGIN;
    CREATE ROLE causes_nologin NOLOGIN;
    CREATE ROLE causes_full LOGIN CONNECTION LIMIT 0;
    CREATE ROLE causes_reader LOGIN SUPERUSER;
    ALTER ROLE causes_reader SET default_transaction_read_only = on;
"""


@pytest.fixture(scope="module")
def roles(database: str) -> Iterator[str]:
    for statement in filter(str.strip, ROLES.split(";")):
        sql(database, statement)
    yield database
    for name in ("plain", "nologin", "full", "reader"):
        sql(database, f"DROP ROLE causes_{name}")


async def cause(url: str, statement: str = "SELECT 1", *, seconds: float = 60, ca_file: Path | None = None) -> str:
    """Return the cause of the failure of a statement on a new connection."""
    settings = load_settings(
        database_url=url, database_ca_file=ca_file, redis_url="redis://localhost", database_timeout_seconds=seconds
    )
    engine = make_engine(settings)
    try:
        async with engine.connect() as connection:
            await connection.execute(text(statement))
    except DATABASE_ERRORS as error:
        failure = database_failure(error)
        assert failure.remedy
        assert "pa55word" not in str(failure)
        return failure.cause
    finally:
        await engine.dispose()
    raise AssertionError("the statement did not fail")


@pytest.mark.parametrize(
    ("user", "statement", "expected"),
    [
        ("causes_missing", "SELECT 1", "the role does not exist"),
        ("causes_nologin", "SELECT 1", "the role may not log in"),
        ("causes_full", "SELECT 1", "it has too many connections"),
        (
            "causes_reader",
            "CREATE TABLE causes (id int)",
            "it is read-only (a replica, or default_transaction_read_only)",
        ),
        ("causes_plain", "SELECT * FROM api_keys", "the role lacks a permission"),
        ("causes_plain", "SELECT * FROM causes_missing", "a table is missing or not visible"),
        ("causes_plain", "SELECT causes_missing()", "a function is missing or not visible"),
        ("postgres", "SELECT causes_missing FROM api_keys", "a column is missing"),
    ],
)
async def test_refusal_of_the_server_is_named(roles: str, user: str, statement: str, expected: str) -> None:
    assert await cause(roles.replace("postgres@", f"{user}@"), statement) == expected


async def test_missing_database_is_named(postgres: EmbeddedPostgres) -> None:
    assert await cause(postgres.url("causes_missing")) == "the database does not exist"


async def test_unknown_setting_of_the_session_is_named(database: str) -> None:
    expected = "it does not know a setting of the session"
    assert await cause(f"{database}&options=-c%20causes_missing%3D1") == expected


async def test_closed_port_is_named() -> None:
    assert await cause(f"postgresql://u:pa55word@127.0.0.1:{free_port()}/p") == "it refuses connections"


async def test_missing_socket_is_named(tmp_path: Path) -> None:
    assert await cause(f"postgresql://u@/p?host={tmp_path}") == "its Unix socket does not exist"


async def test_unknown_host_is_named() -> None:
    assert await cause("postgresql://u:pa55word@db.invalid/p?sslmode=require") == "its host name is not found"


@pytest.fixture
async def listener() -> AsyncIterator[socket.socket]:
    """A server that accepts connections and does not respond."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


async def test_server_without_response_is_named(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    assert await cause(f"postgresql://u:pa55word@127.0.0.1:{port}/p", seconds=0.2) == "it did not respond in time"


async def test_server_that_closes_is_named() -> None:
    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await cause(f"postgresql://u:pa55word@127.0.0.1:{port}/p?sslmode=disable") == "it closed the connection"


PROGRAMS = postgres_programs()


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TlsPostgres, Path, Path]]:
    """A server that takes TLS connections with a password only, its CA, and another CA."""
    if PROGRAMS is None:
        pytest.skip("PostgreSQL with TLS is not installed (Debian package postgresql)")
    directory, authority = tmp_path_factory.mktemp("causes"), Authority()
    certificate = authority.issue(directory, "127.0.0.1", minutes=60)
    ca_file, other = authority.write(directory / "ca.pem"), Authority("another CA").write(directory / "other.pem")
    with tls_postgres(PROGRAMS, certificate, "pa55word") as server:
        yield server, ca_file, other


@pytest.mark.parametrize(
    ("password", "mode", "trusted", "expected"),
    [
        ("wrong", "verify-full", True, "the password is wrong, or the role does not exist"),
        ("pa55word", "disable", True, "it accepts TLS connections only"),
        ("pa55word", "verify-full", False, "its certificate comes from a CA that is not trusted"),
    ],
)
async def test_refusal_over_tls_is_named(
    secure: tuple[TlsPostgres, Path, Path], password: str, mode: str, trusted: bool, expected: str
) -> None:
    server, ca_file, other = secure
    url = f"postgresql://postgres:{password}@127.0.0.1:{server.port}/postgres?sslmode={mode}"
    used = None if mode == "disable" else ca_file if trusted else other
    assert await cause(url, ca_file=used) == expected
