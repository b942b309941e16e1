"""A Redis that is demoted, or loses its data or its users, while connections to it stay open."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from redis._parsers import BaseParser
from redis.exceptions import ReadOnlyError, RedisError, ResponseError
from structlog.testing import capture_logs

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from platform_app.auth.cache import KeyCache
from platform_app.auth.keys import events
from platform_app.auth.keys.events import CHANNEL, KeyEventListener, RedisKeyEvents
from platform_app.redis import client as redis_client
from platform_app.redis.client import PipelinedRedis
from platform_app.redis.failures import condemns_connection, error_code, redis_failure
from platform_app.redis.scripts import make_script
from tests.support.servers.valkey import connect, own_server, tell

WRITE = make_script("return redis.call('INCR', KEYS[1])")
GENEROUS_SECONDS = 30


class Failover:
    """Two servers, and a name that leads to one of them: a symbolic link to its socket, in place of DNS."""

    def __init__(self, directory: Path, first: EmbeddedValkey, second: EmbeddedValkey) -> None:
        self.first, self.second = first, second
        self._link = directory / "r.sock"
        self.url = f"unix://{self._link}"
        self.lead_to(first)

    def lead_to(self, server: EmbeddedValkey) -> None:
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(str(server.socket))

    async def demote(self, server: EmbeddedValkey) -> None:
        """Make it a replica of a server that does not exist; its data and its connections stay."""
        await command(server, "REPLICAOF", "127.0.0.1", 1)

    async def promote(self, server: EmbeddedValkey) -> None:
        await command(server, "REPLICAOF", "NO", "ONE")


async def command(server: EmbeddedValkey, *words: str | int) -> object:
    client = connect(server.url)
    try:
        return await tell(client, *words)
    finally:
        await client.aclose()


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[EmbeddedValkey, EmbeddedValkey]]:
    with own_server() as first, own_server() as second:
        yield first, second


@pytest.fixture
async def failover(pair: tuple[EmbeddedValkey, EmbeddedValkey], tmp_path: Path) -> Failover:
    made = Failover(tmp_path, *pair)
    for server in pair:
        await made.promote(server)
        await command(server, "FLUSHALL")
    return made


@contextlib.asynccontextmanager
async def pipelined(url: str) -> AsyncIterator[PipelinedRedis]:
    client = PipelinedRedis(url, GENEROUS_SECONDS)
    try:
        yield client
    finally:
        await client.aclose()


async def test_demoted_server_is_left_without_an_error(failover: Failover) -> None:
    """Commands that were refused had no effect, so all of them are sent once more: to the server that the name leads
    to by now."""
    async with pipelined(failover.url) as client:
        assert await client.run(WRITE, ["n"], []) == 1
        await failover.demote(failover.first)
        failover.lead_to(failover.second)
        results = await asyncio.gather(*(client.run(WRITE, ["n"], []) for _ in range(100)))
        assert sorted(results) == list(range(1, 101))


async def test_demoted_server_fails_commands_until_promoted(failover: Failover) -> None:
    async with pipelined(failover.url) as client:
        assert await client.run(WRITE, ["n"], []) == 1
        await failover.demote(failover.first)
        for _ in range(3):
            with pytest.raises(ReadOnlyError) as caught:
                await client.run(WRITE, ["n"], [])
            assert redis_failure(caught.value).cause == "it is a read-only replica"
        await failover.promote(failover.first)
        assert await client.run(WRITE, ["n"], []) == 2


async def test_session_without_user_is_replaced(failover: Failover) -> None:
    """A session that lost its user gets NOAUTH for every command; a new one logs in again."""
    await command(failover.first, "CONFIG", "SET", "requirepass", "pa55word")
    try:
        async with pipelined(failover.url.replace("unix://", "unix://:pa55word@")) as client:
            assert await client.run(WRITE, ["n"], []) == 1
            await client.execute_command("RESET")
            assert await eventually(client) == 2
    finally:
        other = connect(failover.first.url.replace("unix://", "unix://:pa55word@"))
        await tell(other, "CONFIG", "SET", "requirepass", "")
        await other.aclose()


async def eventually(client: PipelinedRedis) -> object:
    """NOAUTH is an error of the connection for redis-py: the command fails, and the next one opens another."""
    async with asyncio.timeout(300):
        while True:
            try:
                return await client.run(WRITE, ["n"], [])
            except RedisError:
                await asyncio.sleep(0.01)


async def test_changed_permissions_apply_to_open_connection(failover: Failover) -> None:
    """NOPERM does not condemn a connection, because it is not needed: the same one works again."""
    await command(failover.first, "ACL", "SETUSER", "limited", "on", ">pa55word", "~*", "+@all")
    async with pipelined(failover.url.replace("unix://", "unix://limited:pa55word@")) as client:
        assert await client.run(WRITE, ["n"], []) == 1
        connection = client._connection
        await command(failover.first, "ACL", "SETUSER", "limited", "-incr")
        with pytest.raises(ResponseError) as caught:
            await client.run(WRITE, ["n"], [])
        assert redis_failure(caught.value).cause == "the user lacks a permission"
        await command(failover.first, "ACL", "SETUSER", "limited", "+incr")
        assert await client.run(WRITE, ["n"], []) == 2
        assert client._connection is connection
        await command(failover.first, "ACL", "DELUSER", "limited")  # closes its connections
        async with asyncio.timeout(300):
            while await cause_of_failure(client) != "the user or the password is wrong":
                await asyncio.sleep(0.01)


async def cause_of_failure(client: PipelinedRedis) -> str | None:
    try:
        await client.run(WRITE, ["n"], [])
    except RedisError as error:
        return redis_failure(error).cause
    return None


async def test_idle_connection_is_replaced(failover: Failover, monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall may have dropped it without a message to either side."""
    async with pipelined(failover.url) as client:
        await client.run(WRITE, ["n"], [])
        connection = client._connection
        await client.run(WRITE, ["n"], [])
        assert client._connection is connection
        async with asyncio.timeout(300):
            while client._watching:
                await asyncio.sleep(0.01)
        monkeypatch.setattr(redis_client, "IDLE_SECONDS", -1.0)
        assert await client.run(WRITE, ["n"], []) == 3
        assert client._connection is not connection


@pytest.mark.parametrize("own_protocol", ["", "?protocol=2"])
async def test_key_change_reaches_listener_after_failover(failover: Failover, own_protocol: str) -> None:
    """A replica accepts PUBLISH, but the event does not reach listeners of its primary."""
    publisher = connect(failover.url + own_protocol)
    received: asyncio.Queue[str] = asyncio.Queue()
    try:
        async with listening(failover.second, received):
            await RedisKeyEvents(publisher).publish_change("first")
            await failover.demote(failover.first)
            failover.lead_to(failover.second)
            with capture_logs() as logs:
                await RedisKeyEvents(publisher).publish_change("second")
            assert [line["event"] for line in logs] == []
            async with asyncio.timeout(300):
                assert await received.get() == "second"
    finally:
        await publisher.aclose()


@contextlib.asynccontextmanager
async def listening(server: EmbeddedValkey, received: "asyncio.Queue[str]") -> AsyncIterator[None]:
    client = connect(server.url)
    subscription = client.pubsub()
    await subscription.subscribe(CHANNEL)

    async def listen() -> None:
        async for message in subscription.listen():
            if message["type"] == "message":
                received.put_nowait(message["data"].decode())

    task = asyncio.create_task(listen())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await subscription.aclose()  # type: ignore[no-untyped-call]  # redis-py
        await client.aclose()


async def test_listener_leaves_a_demoted_server(failover: Failover, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PING_SECONDS", 0.5)
    client = connect(failover.url)
    cleared = 0

    class Cache(KeyCache):
        def clear(self) -> None:
            nonlocal cleared
            cleared += 1
            super().clear()

    listener = KeyEventListener(client, Cache(10))
    task = asyncio.create_task(listener.run())
    try:
        await until(lambda: listener.connected)
        await failover.demote(failover.first)
        await until(lambda: not listener.connected)
        failover.lead_to(failover.second)
        await until(lambda: listener.connected)
        assert cleared == 2
        assert await subscribers(failover.second) == 1
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.aclose()


async def subscribers(server: EmbeddedValkey) -> int:
    client = connect(server.url)
    try:
        return dict(await client.pubsub_numsub(CHANNEL))[CHANNEL.encode()]
    finally:
        await client.aclose()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(300):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("text", "code", "condemned"),
    [
        ("READONLY You can't write against a read only replica.", "READONLY", True),
        ("ERR Error running script (call to f_1): @user_script:1: -READONLY You can't write", "READONLY", True),
        ("MASTERDOWN Link with MASTER is down", "MASTERDOWN", True),
        ("CLUSTERDOWN Hash slot not served", "CLUSTERDOWN", True),
        ("NOREPLICAS Not enough good replicas to write.", "NOREPLICAS", True),
        ("MISCONF Errors writing to the AOF file", "MISCONF", True),
        ("LOADING the dataset in memory", "LOADING", True),
        ("NOAUTH Authentication required.", "NOAUTH", True),
        ("UNBLOCKED force unblock from blocking operation", "UNBLOCKED", True),
        ("NOPERM User limited has no permissions", "NOPERM", False),
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM", False),
        ("BUSY is busy running a script", "BUSY", False),
        ("UNKILLABLE Sorry the script already executed write commands", "UNKILLABLE", False),
        ("NOSCRIPT No matching script.", "NOSCRIPT", False),
        ("ERR unknown command 'EVALSHA'", "ERR", False),
    ],
)
def test_error_of_the_server_condemns_its_connection(text: str, code: str, condemned: bool) -> None:
    """Parsed by redis-py as from the wire; its classes are different for some."""
    error: Exception = BaseParser.parse_error(text)  # type: ignore[no-untyped-call]  # redis-py
    assert error_code(error) == code
    assert condemns_connection(error) == condemned
