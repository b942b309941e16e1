"""Run scripts on Redis Cluster or Valkey Cluster: one PipelinedRedis for each node that serves slots.

The map from slots to nodes is fetched with the first call, and again after a node failed or returned MOVED. While a
slot is migrated, scripts on it may fail for a moment (ASK, TRYAGAIN); the limiter is degraded for that time.

Why not redis-py's RedisCluster, which has the same commands: it takes a connection from a pool for each call, so calls
are not pipelined. Measured on three nodes of Valkey 9.1 with redis-py 8.1 on two cores, one key per call:

                                          PipelinedCluster    RedisCluster
    CPU per call, 50 concurrent callers   24 us               135 us
    CPU per call, one caller              112 us              176 us
    longest call while a node is frozen   90 ms               435 ms (timeout 50 ms: the retry, then the slots again)
    longest call after a node was killed  20 ms               400 ms
    round trips per call                  1                   1
"""

import asyncio
import bisect
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError, RedisError, ResponseError

from platform_app.redis.client import PipelinedRedis
from platform_app.redis.failures import condemns_connection
from platform_app.redis.scripts import Script

MAX_RANGES = 16_000
"""Most ranges of slots that are accepted from a node."""


class PipelinedCluster:
    """A ScriptClient for a cluster: sends each script to the node of its first key. All keys must be in one slot."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        """`url`: any node's, as for PipelinedRedis. The other nodes are reached with its scheme and credentials."""
        self._url = url
        self._timeout = timeout_seconds
        self._clients: dict[str, PipelinedRedis] = {}
        """By the node's URL."""
        self._starts: list[int] = []
        """First slots of the ranges, sorted; empty while the map is not known."""
        self._nodes: list[str] = []
        """URL of the node that serves the range with the same index."""
        self._fetching = asyncio.Lock()

    async def load_scripts(self, scripts: Iterable[Script], seconds: float) -> bool:
        """Connect and load the scripts on every node; see PipelinedRedis.load_scripts."""
        scripts = list(scripts)
        try:
            async with asyncio.timeout(seconds):
                await self._fetch_slots()
                loading = (self._client(url).load_scripts(scripts, seconds) for url in set(self._nodes))
                return all(await asyncio.gather(*loading))
        except (RedisError, OSError, TimeoutError):
            return False

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int | bytes]) -> "asyncio.Future[Any]":
        """See ScriptClient.run."""
        return asyncio.ensure_future(self._run(script, keys, arguments))

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()

    async def _run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int | bytes]) -> Any:
        slot = key_slot(keys[0].encode())
        try:
            return await (await self._client_for(slot)).run(script, keys, arguments)
        except MovedError:
            self._starts = []
            return await (await self._client_for(slot)).run(script, keys, arguments)
        except (RedisError, OSError, TimeoutError) as error:
            if condemns_connection(error) or not isinstance(error, ResponseError):
                self._starts = []  # a replica may have taken over
            raise

    async def _client_for(self, slot: int) -> PipelinedRedis:
        if not self._starts:
            await self._fetch_slots()
        return self._client(self._nodes[bisect.bisect_right(self._starts, slot) - 1])

    def _client(self, url: str) -> PipelinedRedis:
        client = self._clients.get(url)
        if client is None:
            client = self._clients[url] = PipelinedRedis(url, self._timeout)
        return client

    async def _fetch_slots(self) -> None:
        """Send CLUSTER SLOTS to all known nodes at once and use the first response: a frozen node sends none."""
        async with asyncio.timeout(self._timeout), self._fetching:
            if self._starts:
                return  # another call has fetched it meanwhile
            urls = list({self._url: None, **dict.fromkeys(self._clients)})
            calls = [asyncio.ensure_future(self._client(url).execute_command("CLUSTER", "SLOTS")) for url in urls]
            try:
                self._note_slots(*await _first_result(calls, urls))
            finally:
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)

    def _note_slots(self, slots: list[Any], source_url: str) -> None:
        ranges = sorted((first, last, master[0], master[1]) for first, last, master, *_ in slots)
        if not ranges or ranges[0][0] != 0 or len(ranges) > MAX_RANGES:
            raise RedisConnectionError("the cluster does not serve all slots")
        self._nodes = [_node_url(source_url, host, port) for _, _, host, port in ranges]
        self._starts = [first for first, *_ in ranges]


async def _first_result(calls: Sequence["asyncio.Future[Any]"], urls: Sequence[str]) -> tuple[Any, str]:
    """Return the first successful result and the URL of its node."""
    error: BaseException | None = None
    waiting = dict(zip(calls, urls, strict=True))
    while waiting:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for call in done:
            url = waiting.pop(call)
            error = call.exception()
            if error is None:
                return call.result(), url
    raise RedisConnectionError("no node of the cluster responds") from error


def _node_url(source_url: str, host: bytes | str | None, port: int) -> str:
    """Return the source's URL with a node's address. A node that does not know its own host sends none: then it is the
    node that was asked."""
    parts = urlsplit(source_url)
    name = host.decode() if isinstance(host, bytes) else host
    credentials, at, _ = parts.netloc.rpartition("@")
    name = name or parts.hostname or "127.0.0.1"
    return urlunsplit(parts._replace(netloc=f"{credentials}{at}{f'[{name}]' if ':' in name else name}:{port}"))
