"""What operators read when Redis fails: the cause of each failure, from a real server where it can be had."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from platform_app.redis.failures import REDIS_ERRORS, redis_failure
from tests.support.servers.network.ports import free_port
from tests.support.servers.valkey import connect, own_server, tell, tls_in_front

PASSWORD = "pa55word"
SET = ("SET", "k", "v")


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedValkey]:
    """A server that needs a password from its first client on: its start is noticed without one."""
    with own_server() as running:
        with redis.Redis.from_url(running.url) as client:
            client.config_set("requirepass", PASSWORD)
        yield running


async def cause(url: str, *command: str, timeout_ms: int = 5000) -> str:
    """Return the cause of the failure of a command on a new connection."""
    client = connect(url, timeout_ms)
    try:
        await tell(client, *(command or ("PING",)))
    except REDIS_ERRORS as error:
        failure = redis_failure(error)
        assert failure.remedy
        assert PASSWORD not in str(failure)
        return failure.cause
    finally:
        await client.aclose()
    raise AssertionError("the command did not fail")


def with_user(server: EmbeddedValkey, user: str) -> str:
    return server.url.replace("unix://", f"unix://{user}@")


async def do(server: EmbeddedValkey, *command: str | int) -> None:
    client = connect(with_user(server, f":{PASSWORD}"))
    await tell(client, *command)
    await client.aclose()


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", "it needs a password"),
        (":wrong", "the user or the password is wrong"),
        ("missing:pa55word", "the user or the password is wrong"),
    ],
)
async def test_wrong_credentials_are_named(server: EmbeddedValkey, user: str, expected: str) -> None:
    assert await cause(with_user(server, user) if user else server.url) == expected


async def test_missing_permission_is_named(server: EmbeddedValkey) -> None:
    await do(server, "ACL", "SETUSER", "limited", "on", f">{PASSWORD}", "~*", "+@all", "-set")
    assert await cause(with_user(server, f"limited:{PASSWORD}"), *SET) == "the user lacks a permission"


@pytest.mark.parametrize(
    ("setting", "wrong", "right", "command", "expected"),
    [
        ("maxmemory", "1", "0", SET, "its memory is full"),
        ("min-replicas-to-write", "1", "0", SET, "it has too few replicas to accept writes"),
    ],
)
async def test_refused_write_is_named(
    server: EmbeddedValkey, setting: str, wrong: str, right: str, command: tuple[str, ...], expected: str
) -> None:
    await do(server, "CONFIG", "SET", setting, wrong)
    try:
        assert await cause(with_user(server, f":{PASSWORD}"), *command) == expected
    finally:
        await do(server, "CONFIG", "SET", setting, right)


@pytest.mark.parametrize(
    ("stale", "command", "expected"),
    [
        ("yes", SET, "it is a read-only replica"),
        ("no", ("GET", "k"), "it is a replica whose primary is down"),
    ],
)
async def test_replica_is_named(server: EmbeddedValkey, stale: str, command: tuple[str, ...], expected: str) -> None:
    await do(server, "CONFIG", "SET", "replica-serve-stale-data", stale)
    await do(server, "REPLICAOF", "127.0.0.1", 1)
    try:
        assert await cause(with_user(server, f":{PASSWORD}"), *command) == expected
    finally:
        await do(server, "REPLICAOF", "NO", "ONE")


async def test_wrong_database_number_is_named(server: EmbeddedValkey) -> None:
    expected = "it has no database with this number"
    assert await cause(f"{with_user(server, f':{PASSWORD}')}?db=999") == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"-LOADING server is loading the dataset in memory\r\n", "it is loading its data"),
        (b"-MISCONF cannot persist on disk\r\n", "it cannot save to its disk and refuses writes"),
        (b"-ERR max number of clients reached\r\n", "it has too many connections"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it does not speak Redis's protocol on this port"),
        (b"", "it closed the connection"),
    ],
)
async def test_reply_of_a_stand_in_is_named(reply: bytes, expected: str) -> None:
    """These states of a real server depend on its disk, its data or its system."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while reply and await reader.read(4096):
                writer.write(reply)
        writer.close()

    standing_in = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        port = standing_in.sockets[0].getsockname()[1]
        assert await cause(f"redis://127.0.0.1:{port}/0") == expected
    finally:
        standing_in.close()


async def test_plain_client_at_tls_port_is_named(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    async with tls_in_front(valkey, tmp_path) as (port, _):
        assert await cause(f"redis://127.0.0.1:{port}/0") in (
            "it does not speak Redis's protocol on this port",
            "it closed the connection",
        )


async def test_tls_client_at_plain_port_is_named(tmp_path: Path) -> None:
    port = free_port()
    plain = EmbeddedValkey(tmp_path / "plain", port=port)
    plain.start()
    try:
        found = await cause(f"rediss://127.0.0.1:{port}/0", timeout_ms=500)
    finally:
        plain.stop()
    # A server may take the handshake for the begin of a command, and wait for its end.
    expected = ("it does not use TLS on this port", "it closed the connection", "it did not respond in time")
    assert found.startswith(expected)


async def test_closed_port_is_named() -> None:
    assert await cause(f"redis://127.0.0.1:{free_port()}/0") == "it refuses connections"


async def test_missing_socket_is_named(tmp_path: Path) -> None:
    assert await cause(f"unix://{tmp_path}/none.sock") == "its Unix socket does not exist"


async def test_server_without_response_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"redis://127.0.0.1:{listening.getsockname()[1]}/0"
        assert await cause(url, timeout_ms=200) == "it did not respond in time"
