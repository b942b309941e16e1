"""Many questions over one connection, each with its own answer, through everything a server can do."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.exceptions import NoScriptError, RedisError, ResponseError

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from platform_app.redis import client as script_pipe
from platform_app.redis.client import PipelinedRedis
from tests.support.servers.valkey import connect

ECHO = "return ARGV[1]"
GENEROUS_SECONDS = 30
"""The timeout where none is tested: a busy machine's server responds later than the gateway would wait."""


@pytest.fixture
async def pipe(valkey: EmbeddedValkey) -> AsyncIterator[PipelinedRedis]:
    opened = PipelinedRedis(valkey.url, GENEROUS_SECONDS)
    yield opened
    await opened.aclose()


async def test_a_thousand_at_once_each_get_their_own_answer(pipe: PipelinedRedis) -> None:
    answers = await asyncio.gather(*(pipe.eval(ECHO, 0, f"n{number}") for number in range(1000)))
    assert answers == [f"n{number}".encode() for number in range(1000)]


async def test_an_error_is_that_of_its_own_question(pipe: PipelinedRedis) -> None:
    asked = [pipe.eval(ECHO, 0, "a"), pipe.evalsha("0" * 40, 0), pipe.eval("return nonsense()", 0)]
    outcomes = await asyncio.gather(*asked, pipe.eval(ECHO, 0, "b"), return_exceptions=True)
    assert (outcomes[0], outcomes[3]) == (b"a", b"b")
    assert isinstance(outcomes[1], NoScriptError)
    assert isinstance(outcomes[2], ResponseError)


async def test_an_answer_that_nobody_waits_for_shifts_none(pipe: PipelinedRedis, valkey: EmbeddedValkey) -> None:
    await pipe.eval(ECHO, 0, "warm")
    waiting = await blocked(pipe, "script-pipe:shifts-none")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    after = asyncio.create_task(pipe.eval(ECHO, 0, "after"))
    client = connect(valkey.url)
    await client.rpush("script-pipe:shifts-none", "late")
    await client.aclose()
    assert await after == b"after"


async def blocked(pipe: PipelinedRedis, key: str) -> "asyncio.Task[object]":
    """A command that is sent, and to which the server responds when something is pushed to the key."""
    waiting = asyncio.create_task(pipe.command("BLPOP", key, 0))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()
    return waiting


async def test_a_restarted_server_is_found_again(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    server.start()
    pipe = PipelinedRedis(server.url, GENEROUS_SECONDS)
    try:
        assert await pipe.eval(ECHO, 0, "1") == b"1"
        server.kill()
        with pytest.raises((RedisError, OSError)):
            await pipe.eval(ECHO, 0, "2")
        server.start()
        assert await pipe.eval(ECHO, 0, "3") == b"3"
    finally:
        await pipe.aclose()
        server.stop()


async def test_a_frozen_server_is_given_up_and_its_late_answers_reach_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script_pipe, "STALL_SECONDS", 0.1)
    server = EmbeddedValkey(tmp_path)
    server.start()
    pipe = PipelinedRedis(server.url, 0.05)
    try:
        assert await eventually(pipe, "1") == b"1"
        server.pause()
        for _ in range(4):
            with pytest.raises((TimeoutError, RedisError, OSError)):
                async with asyncio.timeout(0.06):
                    await pipe.eval(ECHO, 0, "lost")
        server.resume()
        assert await eventually(pipe, "fresh") == b"fresh"
    finally:
        server.resume()
        await pipe.aclose()
        server.stop()


async def eventually(pipe: PipelinedRedis, text: str) -> object:
    """The response to an echo, sent again until the server gives it in time."""
    async with asyncio.timeout(300):
        while True:
            try:
                return await pipe.eval(ECHO, 0, text)
            except (RedisError, OSError):
                await asyncio.sleep(0.02)


async def test_closing_fails_whoever_waits(valkey: EmbeddedValkey) -> None:
    pipe = PipelinedRedis(valkey.url, GENEROUS_SECONDS)
    await pipe.eval(ECHO, 0, "warm")
    waiting = await blocked(pipe, "script-pipe:closing")
    await pipe.aclose()
    with pytest.raises(RedisError):
        await waiting


async def test_close_while_a_command_connects_leaves_no_connection(valkey: EmbeddedValkey) -> None:
    pipe = PipelinedRedis(valkey.url, GENEROUS_SECONDS)
    connecting = asyncio.create_task(pipe.eval(ECHO, 0, "late"))
    while not pipe._connecting.locked():
        await asyncio.sleep(0)
    await pipe.aclose()
    with pytest.raises(RedisError):
        await connecting
    with pytest.raises(RedisError):
        await pipe.eval(ECHO, 0, "later")
    assert pipe._connection is None


async def test_questions_are_bounded(pipe: PipelinedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script_pipe, "MAX_PENDING", 3)
    await pipe.eval(ECHO, 0, "warm")
    outcomes = await asyncio.gather(*(pipe.eval(ECHO, 0, n) for n in range(5)), return_exceptions=True)
    assert [isinstance(outcome, RedisError) for outcome in outcomes] == [False, False, False, True, True]


@pytest.mark.parametrize("moment", ["before it is sent", "after it is sent"])
async def test_own_stall_is_not_blamed_on_the_server(valkey: EmbeddedValkey, moment: str) -> None:
    """The event loop is held up for many timeouts, before the command leaves or after it has left."""
    pipe = PipelinedRedis(valkey.url, 0.05)
    try:
        assert await pipe.eval(ECHO, 0, "warm") == b"warm"
        asked = asyncio.ensure_future(pipe.eval(ECHO, 0, "patient"))
        await asyncio.sleep(0)
        if moment == "after it is sent":
            await asyncio.sleep(0)
        time.sleep(1.5)  # noqa: ASYNC251 - the stall
        assert await asked == b"patient"
    finally:
        await pipe.aclose()
