"""Events of key changes, over Redis pub/sub: every worker drops a changed key from its cache at once.

Pub/sub does not deliver a message to a listener that is not connected. So a listener empties its whole cache whenever
it may have missed one: on every connection and reconnection, and when the connection is idle for too long. A publisher
waits for a Redis that stalls for less time than that. While no listener is connected, the cache's TTL bounds how long a
revoked key works.

A replica accepts both PUBLISH and SUBSCRIBE but does not pass events on to its primary. So a server must accept writes
to be used: the publisher publishes from a script, and the listener sends a script before it subscribes and in place of
pings. Scripts without the flag `no-writes` get READONLY from a replica.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError, ResponseError

from platform_app.auth.cache import KeyCache
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger
from platform_app.redis.failures import REDIS_ERRORS, error_code, redis_failure

CHANNEL = "fbp:keys:changed"
PING_SECONDS = 0.5
"""A connection without a response for two of these is closed."""
PUBLISH_SECONDS = 1.25
"""Longest time to publish. It is longer than listeners wait for Redis: listeners that outlast a stall get the event,
the others reconnect and empty their cache."""
PUBLISH_PAUSE_SECONDS = 0.05
CLOSE_SECONDS = 0.25
MAX_PAUSE_SECONDS = 2.0

_log = get_logger("auth")
_PUBLISH = "#!lua flags=allow-oom\nreturn redis.call('PUBLISH', ARGV[1], ARGV[2])"
_ACCEPTS_WRITES = "#!lua flags=allow-oom\nreturn 'PONG'"
"""Its response is that to a PING."""
_DEMOTED = frozenset({"READONLY", "MASTERDOWN", "LOADING", "NOAUTH", "UNBLOCKED"})
"""Errors that a server or a session gets which can no longer deliver events. Others, such as NOREPLICAS, stop only
writes."""
_NO_SERVER = (ConnectionRefusedError, FileNotFoundError)


class KeyEvents(Protocol):
    """Publishes key changes to every process. Never raises: a lost event costs at most the cache's TTL."""

    async def publish_change(self, key_id: str) -> None:
        """Publish that this key has changed; the change must be committed."""
        ...


class RedisKeyEvents:
    """Publishes over Redis, and drops the key from this process's own cache."""

    def __init__(self, redis: "Redis", cache: KeyCache | None = None) -> None:
        self._redis = redis
        self._cache = cache

    async def publish_change(self, key_id: str) -> None:
        """See KeyEvents.publish_change."""
        if self._cache is not None:
            self._cache.forget(key_id)
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                await self._publish(key_id)
        except REDIS_ERRORS as error:
            metrics.KEY_ANNOUNCEMENTS.labels("failed").inc()
            _log.warning("key_change_not_announced", key_id=key_id, error=str(redis_failure(error)))
        else:
            metrics.KEY_ANNOUNCEMENTS.labels("sent").inc()

    async def _publish(self, key_id: str) -> None:
        """Publish, with retries unless no server runs: then no listener is connected either."""
        while True:
            try:
                await self._publish_once(key_id)
                return
            except RedisError as error:
                if isinstance(error.__cause__ or error.__context__, _NO_SERVER):
                    raise
            await asyncio.sleep(PUBLISH_PAUSE_SECONDS)

    async def _publish_once(self, key_id: str) -> None:
        try:
            if _is_cluster(self._redis):  # every node passes events on to all others
                await self._redis.publish(CHANNEL, key_id)
            else:
                await self._redis.eval(_PUBLISH, 0, CHANNEL, key_id)
        except ResponseError as error:
            if error_code(error) in _DEMOTED:
                await self._redis.connection_pool.disconnect()  # the next attempt looks the name up again
                raise
            # It stops writes, as without disk space; or the user may not run scripts.
            await self._redis.publish(CHANNEL, key_id)


class KeyEventListener:
    """Drops keys that other processes have changed from a cache. `run` is a task for the process's whole life."""

    def __init__(self, redis: "Redis", cache: KeyCache) -> None:
        self._redis = redis
        self._cache = cache
        self.connected = False

    async def run(self) -> None:
        """Listen and reconnect until cancelled."""
        pause = 0.0
        while True:
            # Jitter, so that a hundred workers do not reconnect at the same moment.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            try:
                async with _pubsub(self._redis) as pubsub:
                    await self._listen(pubsub)
            except REDIS_ERRORS as error:
                if self.connected:
                    _log.warning("key_listener_disconnected", error=str(redis_failure(error)))
                    pause = 0.0
            except Exception:  # noqa: BLE001 - revocations must arrive again, whatever the library raises
                _log.exception("key_listener_bug")
                pause = MAX_PAUSE_SECONDS
            finally:
                self._note(connected=False)
            pause = min(max(0.05, pause * 2), MAX_PAUSE_SECONDS)

    async def _listen(self, pubsub: PubSub) -> None:
        async with asyncio.timeout(2 * PING_SECONDS):
            await self._ping(pubsub)
            await pubsub.subscribe(CHANNEL)
        idle = 0
        while True:
            async with asyncio.timeout(4 * PING_SECONDS):
                try:
                    message = await pubsub.get_message(timeout=PING_SECONDS)
                except ResponseError as error:
                    if error_code(error) in _DEMOTED:
                        raise
                    continue  # it stops writes, or refuses scripts, but delivers events
                if message is None:
                    idle += 1
                    if idle > 1:
                        raise TimeoutError("Redis did not respond to a ping")
                    await self._ping(pubsub)
                    continue
            idle = 0
            self._handle(message)

    async def _ping(self, pubsub: PubSub) -> None:
        """Send a command to which the server responds only while it can deliver events."""
        await pubsub.connect()  # type: ignore[no-untyped-call]  # redis-py
        # A connection that has subscribed takes other commands only in the third version of the protocol.
        scripts = not pubsub.subscribed or str(getattr(pubsub.connection, "protocol", 2)) == "3"
        if scripts and not _is_cluster(self._redis):
            await pubsub.execute_command("EVAL", _ACCEPTS_WRITES, 0)
        else:
            await pubsub.ping()

    def _handle(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "subscribe":
                # Also after a reconnection that redis-py made by itself: events in between are lost.
                self._cache.clear()
                if not self.connected:
                    _log.info("key_listener_connected")
                self._note(connected=True)
            case "message":
                self._cache.forget(message["data"].decode("ascii", "replace"))
                metrics.KEY_ANNOUNCEMENTS.labels("received").inc()

    def _note(self, *, connected: bool) -> None:
        self.connected = connected
        metrics.KEY_LISTENER_CONNECTED.set(connected)


def _is_cluster(redis: "Redis") -> bool:
    """Return whether this is redis-py's client for a cluster, which has the same commands."""
    return hasattr(redis, "get_random_node")


@contextlib.asynccontextmanager
async def _pubsub(redis: "Redis") -> AsyncIterator[PubSub]:
    """Open a subscription. On a cluster, use another random node with each attempt: every node gets every event."""
    async with asyncio.timeout(2 * PING_SECONDS):
        await redis.initialize()  # before it, a cluster's client knows no node
    any_node = getattr(redis, "get_random_node", None)
    pubsub = redis.pubsub() if any_node is None else redis.pubsub(node=any_node())
    try:
        yield pubsub
    finally:
        with contextlib.suppress(*REDIS_ERRORS):  # the connection may be lost already
            async with asyncio.timeout(CLOSE_SECONDS):
                await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py
