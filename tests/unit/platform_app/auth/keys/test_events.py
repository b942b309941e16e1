"""Publishing and receiving key changes, on fakeredis and on a scripted Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fakeredis import FakeAsyncRedis, FakeServer
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout
from structlog.testing import capture_logs

from platform_app.auth.authenticator import Authenticator, AuthPolicy
from platform_app.auth.cache import CachedKey, KeyCache
from platform_app.auth.keys import events
from platform_app.auth.keys.events import CHANNEL, KeyEventListener, RedisKeyEvents
from platform_app.auth.keys.records import StoredKey, StoredSecret
from platform_app.auth.pepper import Peppers, parse_peppers
from platform_app.auth.tokens import generate_token
from platform_app.errors import InvalidApiKey
from tests.support.auth.many_keys import LooksUpOneByOne
from tests.support.fakes.core import Count, key_record

ONE, TWO = "a" * 12, "b" * 12


def filled(*key_ids: str) -> KeyCache:
    cache = KeyCache(10)
    for number, key_id in enumerate(key_ids):
        cache.put(bytes([number]) * 32, CachedKey(None, key_id, None, 0.0))
    return cache


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(300):
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def listening(redis: Any, cache: KeyCache) -> AsyncIterator[KeyEventListener]:
    listener = KeyEventListener(redis, cache)
    task = asyncio.create_task(listener.run())
    try:
        yield listener
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not listener.connected


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
async def redis(server: FakeServer) -> AsyncIterator[FakeAsyncRedis]:
    client = FakeAsyncRedis(server=server)
    yield client
    await client.aclose()


async def test_event_drops_only_its_key(redis: FakeAsyncRedis) -> None:
    cache = KeyCache(10)
    received = Count("platform_key_announcements_total", outcome="received")
    sent = Count("platform_key_announcements_total", outcome="sent")
    async with listening(redis, cache) as listener:
        await until(lambda: listener.connected)
        cache.put(b"1" * 32, CachedKey(None, ONE, None, 0.0))
        cache.put(b"2" * 32, CachedKey(None, TWO, None, 0.0))
        await RedisKeyEvents(redis).publish_change(ONE)
        await until(lambda: len(cache) == 1)
        assert cache.get(b"2" * 32) is not None
    assert (received.grown, sent.grown) == (1, 1)


async def test_subscription_empties_the_cache(redis: FakeAsyncRedis) -> None:
    cache = filled(ONE, TWO)
    async with listening(redis, cache) as listener:
        await until(lambda: listener.connected)
        assert len(cache) == 0


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"x" * 10_000, b"* ", "ö".encode()])
async def test_malformed_event_is_ignored(redis: FakeAsyncRedis, data: bytes) -> None:
    cache = KeyCache(10)
    async with listening(redis, cache) as listener:
        await until(lambda: listener.connected)
        cache.put(b"1" * 32, CachedKey(None, ONE, None, 0.0))
        generation = cache.generation
        await redis.publish(CHANNEL, data)
        await until(lambda: cache.generation > generation)
        assert len(cache) == 1
        await RedisKeyEvents(redis).publish_change(ONE)
        await until(lambda: len(cache) == 0)


async def test_listener_reconnects_and_empties_cache(redis: FakeAsyncRedis, server: FakeServer) -> None:
    cache = KeyCache(10)
    async with listening(redis, cache) as listener:
        await until(lambda: listener.connected)
        server.connected = False
        await until(lambda: not listener.connected)
        cache.put(b"1" * 32, CachedKey(None, ONE, None, 0.0))
        server.connected = True
        await until(lambda: listener.connected)
        assert len(cache) == 0


class MutePubSub:
    """Subscribes, and then nothing comes any more: a connection to a machine that is gone."""

    def __init__(self) -> None:
        self.pings = 0
        self.closed = False
        self._messages = [{"type": "subscribe", "data": 1}]

    subscribed = True
    connection = None

    async def connect(self) -> None: ...

    async def subscribe(self, _: str) -> None: ...

    async def get_message(self, timeout: float) -> dict[str, Any] | None:  # noqa: ASYNC109 - as redis-py's
        return self._messages.pop() if self._messages else None

    async def ping(self) -> None:
        self.pings += 1

    async def aclose(self) -> None:
        self.closed = True


class MuteRedis:
    def __init__(self) -> None:
        self.opened: list[MutePubSub] = []

    async def initialize(self) -> None:
        """As redis-py's, which has nothing to do."""

    def pubsub(self) -> MutePubSub:
        self.opened.append(MutePubSub())
        return self.opened[-1]


async def test_connection_without_pong_is_closed() -> None:
    redis, cache = MuteRedis(), KeyCache(10)
    async with listening(redis, cache):
        await until(lambda: len(redis.opened) >= 2)
        first = redis.opened[0]
        assert (first.pings, first.closed) == (2, True)
        assert cache.generation >= 1


class PuzzlingRedis(MuteRedis):
    """Fails once as redis-py did for a cluster of which it knew no node."""

    puzzled = False

    async def initialize(self) -> None:
        if not self.puzzled:
            self.puzzled = True
            raise KeyError(11395)


async def test_library_bug_does_not_end_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_PAUSE_SECONDS", 0.05)
    redis, cache = PuzzlingRedis(), KeyCache(10)
    with capture_logs() as logs:
        async with listening(redis, cache):
            await until(lambda: bool(redis.opened))
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["key_listener_bug"]


class ScriptedRedis:
    """`publish` raises these, one after the other, and then works."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.said: list[str] = []

    async def eval(self, script: str, keys: int, channel: str, key_id: str) -> int:
        assert (keys, channel) == (0, CHANNEL)
        if self.errors:
            raise self.errors.pop(0)
        self.said.append(key_id)
        return 1


def refused(cause: type[Exception]) -> Exception:
    error = RedisConnectionError("no")
    error.__context__ = cause()
    return error


@pytest.mark.parametrize("errors", [[], [RedisTimeout()], [refused(RedisTimeout), refused(ConnectionResetError)]])
async def test_publisher_retries_through_a_stall(monkeypatch: pytest.MonkeyPatch, errors: list[Exception]) -> None:
    monkeypatch.setattr(events, "PUBLISH_PAUSE_SECONDS", 0.001)
    redis, cache = ScriptedRedis(*errors), filled(ONE, TWO)
    failed = Count("platform_key_announcements_total", outcome="failed")
    await RedisKeyEvents(redis, cache).publish_change(ONE)  # type: ignore[arg-type]
    assert redis.said == [ONE]
    assert (failed.grown, len(cache)) == (0, 1)


@pytest.mark.parametrize("cause", [ConnectionRefusedError, FileNotFoundError])
async def test_publisher_does_not_wait_for_missing_server(cause: type[Exception]) -> None:
    redis, cache = ScriptedRedis(refused(cause), refused(cause)), filled(ONE, TWO)
    failed = Count("platform_key_announcements_total", outcome="failed")
    await RedisKeyEvents(redis, cache).publish_change(ONE)  # type: ignore[arg-type]
    assert (redis.said, len(redis.errors)) == ([], 1)
    assert failed.grown == 1
    assert len(cache) == 1, "the own process knows all the same"


async def test_publisher_stops_waiting_for_frozen_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PUBLISH_SECONDS", 0.05)
    failed = Count("platform_key_announcements_total", outcome="failed")

    class FrozenRedis:
        async def eval(self, *_: object) -> int:
            await asyncio.Event().wait()
            return 0

    async with asyncio.timeout(300):
        await RedisKeyEvents(FrozenRedis()).publish_change(ONE)  # type: ignore[arg-type]
    assert failed.grown == 1


def test_publisher_waits_longer_than_listeners() -> None:
    """Otherwise a listener could miss an event without emptying its cache."""
    assert events.PUBLISH_SECONDS > 2 * events.PING_SECONDS


async def test_request_after_event_does_not_share_older_lookup() -> None:
    """The lookup has read the row; the key is revoked and the event arrives; then a second request uses the key."""
    token = generate_token("test")
    peppers = parse_peppers("PEPPER", "1a" * 32)
    digest = peppers.digest(token.text)
    assert digest is not None
    secrets = (StoredSecret(digest, 1, None),)
    good = key_record(token.key_id)
    answers = [StoredKey(good, secrets), StoredKey(key_record(token.key_id, revoked_at=good.created_at), secrets)]
    gate = asyncio.Event()

    class SlowKeys(LooksUpOneByOne):
        async def lookup(self, key_id: str) -> StoredKey | None:
            answer = answers.pop(0)
            if answer.record.revoked_at is None:
                await gate.wait()
            return answer

        async def rehash(self, *_: object) -> None: ...

    class FixedPeppers:
        async def current(self) -> Peppers:
            return peppers

    cache = KeyCache(10)
    auth = Authenticator(SlowKeys(), FixedPeppers(), cache, AuthPolicy(5, 300))
    early = asyncio.create_task(auth.authenticate(token.text))
    await until(lambda: len(answers) == 1)
    cache.forget(token.key_id)
    async with asyncio.timeout(300):
        with pytest.raises(InvalidApiKey):
            await auth.authenticate(token.text)
    gate.set()
    assert (await early).key_id == token.key_id, "it came before the revocation"
    with pytest.raises(InvalidApiKey):
        await auth.authenticate(token.text)
