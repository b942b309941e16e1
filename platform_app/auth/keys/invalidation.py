"""Spreading key changes over Redis pub/sub, so that every worker and replica drops what it knows of a key at once.

Pub/sub forgets messages for whoever is not connected. So a listener empties its whole cache whenever it may have
missed one: on every (re)connection, and when the connection is silent for too long. A Redis that stalls for less than
that is waited for by whoever has something to say. While nobody is connected the cache's TTL is the bound.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from platform_app.auth.cache import KeyCache
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger

CHANNEL = "fbp:keys:changed"
PING_SECONDS = 0.5
"""A connection that shows no sign of life for two of these is taken for dead."""
PUBLISH_SECONDS = 1.25
"""Longer than listeners wait for a silent Redis: those that outlast a stall get the word, the others start anew."""
PUBLISH_PAUSE_SECONDS = 0.05
CLOSE_SECONDS = 0.25
MAX_PAUSE_SECONDS = 2.0

_log = get_logger("auth")
_ERRORS = (RedisError, OSError, TimeoutError)
_NOBODY_THERE = (ConnectionRefusedError, FileNotFoundError)


class RedisAnnouncer:
    """See KeyAnnouncer. Publishes, and drops the entry of its own process by itself."""

    def __init__(self, redis: "Redis", cache: KeyCache | None = None) -> None:
        self._redis = redis
        self._cache = cache

    async def changed(self, key_id: str) -> None:
        """See KeyAnnouncer.changed."""
        if self._cache is not None:
            self._cache.forget(key_id)
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                await self._publish(key_id)
        except _ERRORS as error:
            metrics.KEY_ANNOUNCEMENTS.labels("failed").inc()
            _log.warning("key_change_not_announced", key_id=key_id, error=type(error).__name__)
        else:
            metrics.KEY_ANNOUNCEMENTS.labels("sent").inc()

    async def _publish(self, key_id: str) -> None:
        """Until it was said, unless nobody is there to be told: then no listener is connected either."""
        while True:
            try:
                await self._redis.publish(CHANNEL, key_id)
                return
            except RedisError as error:
                if isinstance(error.__cause__ or error.__context__, _NOBODY_THERE):
                    raise
            await asyncio.sleep(PUBLISH_PAUSE_SECONDS)


class InvalidationListener:
    """Keeps a cache in step with the changes that others announce. `run` is a task for the process's whole life."""

    def __init__(self, redis: "Redis", cache: KeyCache) -> None:
        self._redis = redis
        self._cache = cache
        self.connected = False

    async def run(self) -> None:
        """Listen, reconnect, listen; ends only by cancellation."""
        pause = 0.0
        while True:
            # Jitter, so that a hundred workers do not come back in the same instant.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            try:
                async with _pubsub(self._redis) as pubsub:
                    await self._listen(pubsub)
            except _ERRORS as error:
                if self.connected:
                    _log.warning("key_listener_disconnected", error=type(error).__name__)
                    pause = 0.0
            except Exception:  # noqa: BLE001 - whatever the library raises, revocations must get through again
                _log.exception("key_listener_bug")
                pause = MAX_PAUSE_SECONDS
            finally:
                self._note(connected=False)
            pause = min(max(0.05, pause * 2), MAX_PAUSE_SECONDS)

    async def _listen(self, pubsub: PubSub) -> None:
        async with asyncio.timeout(2 * PING_SECONDS):
            await pubsub.subscribe(CHANNEL)
        silent = 0
        while True:
            async with asyncio.timeout(4 * PING_SECONDS):
                message = await pubsub.get_message(timeout=PING_SECONDS)
                if message is None:
                    silent += 1
                    if silent > 1:
                        raise TimeoutError("no answer to a ping")
                    await pubsub.ping()
                    continue
            silent = 0
            self._handle(message)

    def _handle(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "subscribe":
                # Also after a reconnection that the library made by itself: whatever was said meanwhile is lost.
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


@contextlib.asynccontextmanager
async def _pubsub(redis: "Redis") -> AsyncIterator[PubSub]:
    """On a cluster at any node, another one with each attempt: every node hears of everything that is published."""
    async with asyncio.timeout(2 * PING_SECONDS):
        await redis.initialize()  # a cluster's client knows no node before it
    any_node = getattr(redis, "get_random_node", None)
    pubsub = redis.pubsub() if any_node is None else redis.pubsub(node=any_node())
    try:
        yield pubsub
    finally:
        with contextlib.suppress(*_ERRORS):  # it may be gone already
            async with asyncio.timeout(CLOSE_SECONDS):
                await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py
