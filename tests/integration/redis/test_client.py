"""PipelinedRedis on a real server: many commands on one connection, and everything a server can do to it."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.exceptions import NoScriptError, RedisError, ResponseError

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from platform_app.redis import client as redis_client
from platform_app.redis.client import PipelinedRedis
from platform_app.redis.scripts import make_script
from tests.support.servers.valkey import connect

ECHO = make_script("return ARGV[1]")
GENEROUS_SECONDS = 30
"""The timeout where none is tested: on a busy machine the server responds later than the gateway would wait."""


@pytest.fixture
async def scripts(valkey: EmbeddedValkey) -> AsyncIterator[PipelinedRedis]:
    client = PipelinedRedis(valkey.url, GENEROUS_SECONDS)
    yield client
    await client.aclose()


def echo(client: PipelinedRedis, text: str) -> "asyncio.Future[object]":
    return client.run(ECHO, [], [text])


async def test_concurrent_commands_get_their_own_responses(scripts: PipelinedRedis) -> None:
    responses = await asyncio.gather(*(echo(scripts, f"n{number}") for number in range(1000)))
    assert responses == [f"n{number}".encode() for number in range(1000)]


async def test_error_response_fails_its_own_command(scripts: PipelinedRedis) -> None:
    commands = [
        echo(scripts, "a"),
        scripts.execute_command("EVALSHA", "0" * 40, 0),
        scripts.run(make_script("return nonsense()"), [], []),
    ]
    outcomes = await asyncio.gather(*commands, echo(scripts, "b"), return_exceptions=True)
    assert (outcomes[0], outcomes[3]) == (b"a", b"b")
    assert isinstance(outcomes[1], NoScriptError)
    assert isinstance(outcomes[2], ResponseError)


async def test_flushed_script_is_loaded_by_its_own_command(scripts: PipelinedRedis) -> None:
    """The callers see nothing of it, and other commands in between get their own responses."""
    assert await echo(scripts, "connected") == b"connected"
    await scripts.execute_command("SCRIPT", "FLUSH")
    commands = [echo(scripts, "a"), scripts.execute_command("PING"), echo(scripts, "b")]
    assert await asyncio.gather(*commands) == [b"a", b"PONG", b"b"]
    assert await scripts.execute_command("SCRIPT", "EXISTS", ECHO.sha) == [1]


async def test_connected_client_sends_scripts_without_a_task(scripts: PipelinedRedis) -> None:
    """A task costs more than the script."""
    await echo(scripts, "connected")
    response = echo(scripts, "a")
    assert not isinstance(response, asyncio.Task)
    assert await response == b"a"


async def test_cancelled_command_does_not_shift_responses(scripts: PipelinedRedis, valkey: EmbeddedValkey) -> None:
    await echo(scripts, "connected")
    waiting = await blocked(scripts, "test:redis-client:shift")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    after = echo(scripts, "after")
    client = connect(valkey.url)
    await client.rpush("test:redis-client:shift", "late")
    await client.aclose()
    assert await after == b"after"


async def blocked(client: PipelinedRedis, key: str) -> "asyncio.Task[object]":
    """A command that was sent, and to which the server responds when something is pushed to the key."""
    waiting = asyncio.create_task(client.execute_command("BLPOP", key, 0))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()
    return waiting


async def test_restarted_server_is_connected_again(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    server.start()
    client = PipelinedRedis(server.url, GENEROUS_SECONDS)
    try:
        assert await echo(client, "1") == b"1"
        server.kill()
        with pytest.raises((RedisError, OSError)):
            await echo(client, "2")
        server.start()
        assert await echo(client, "3") == b"3"
    finally:
        await client.aclose()
        server.stop()


async def test_late_responses_of_a_frozen_server_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is closed once it stalls, so that a late response reaches no newer command."""
    monkeypatch.setattr(redis_client, "STALL_SECONDS", 0.1)
    server = EmbeddedValkey(tmp_path)
    server.start()
    client = PipelinedRedis(server.url, 0.05)
    try:
        assert await eventually(client, "1") == b"1"
        server.pause()
        for _ in range(4):
            with pytest.raises((TimeoutError, RedisError, OSError)):
                async with asyncio.timeout(0.06):
                    await echo(client, "lost")
        server.resume()
        assert await eventually(client, "fresh") == b"fresh"
    finally:
        server.resume()
        await client.aclose()
        server.stop()


async def eventually(client: PipelinedRedis, text: str) -> object:
    """The response to an echo, sent again until the server responds in time."""
    async with asyncio.timeout(300):
        while True:
            try:
                return await echo(client, text)
            except (RedisError, OSError):
                await asyncio.sleep(0.02)


async def test_close_fails_pending_commands(valkey: EmbeddedValkey) -> None:
    client = PipelinedRedis(valkey.url, GENEROUS_SECONDS)
    await echo(client, "connected")
    waiting = await blocked(client, "test:redis-client:close")
    await client.aclose()
    with pytest.raises(RedisError):
        await waiting


async def test_close_while_connecting_leaves_no_connection(valkey: EmbeddedValkey) -> None:
    client = PipelinedRedis(valkey.url, GENEROUS_SECONDS)
    connecting = echo(client, "late")
    while not client._connecting.locked():
        await asyncio.sleep(0)
    await client.aclose()
    with pytest.raises(RedisError):
        await connecting
    with pytest.raises(RedisError):
        await echo(client, "later")
    assert client._connection is None


async def test_commands_without_response_are_bounded(scripts: PipelinedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_client, "MAX_PENDING", 3)
    await echo(scripts, "connected")
    outcomes = await asyncio.gather(*(echo(scripts, str(n)) for n in range(5)), return_exceptions=True)
    assert [isinstance(outcome, RedisError) for outcome in outcomes] == [False, False, False, True, True]


@pytest.mark.parametrize("moment", ["before it is sent", "after it is sent"])
async def test_own_stall_does_not_time_out_a_command(valkey: EmbeddedValkey, moment: str) -> None:
    """The event loop is held up for many timeouts, before the command is sent or after."""
    client = PipelinedRedis(valkey.url, 0.05)
    try:
        assert await eventually(client, "connected") == b"connected"
        response = echo(client, "in time")
        if moment == "after it is sent":
            await asyncio.sleep(0)
        time.sleep(1.5)  # noqa: ASYNC251 - the stall
        assert await response == b"in time"
    finally:
        await client.aclose()
