"""Script calls on Redis Cluster or Valkey Cluster: one PipelinedRedis for each node that has slots of ours.

Which node has which slot is asked for with the first call, and again after a node failed or said that a slot moved.
While a slot moves, scripts on it may fail for a moment (ASK, TRYAGAIN); then the limiter is degraded for that long.
"""

import asyncio
import bisect
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError, RedisError

from platform_app.redis.client import PipelinedRedis

_FAILURES = (RedisError, OSError, TimeoutError)
MAX_NODES = 1000


class PipelinedCluster:
    """EVALSHA and EVAL, each sent to the node of its first key. All keys of a call must be in one slot."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        """`url` of any node, as for PipelinedRedis; the others are reached with the same scheme and credentials."""
        self._url = url
        self._timeout = timeout_seconds
        self._pipes: dict[str, PipelinedRedis] = {}
        self._starts: list[int] = []
        self._owners: list[str] = []
        """The node of the slots from the start of the same index on."""
        self._asking = asyncio.Lock()

    async def warm(self, scripts: Iterable[str], seconds: float) -> bool:
        """See PipelinedRedis.warm; on every node."""
        try:
            async with asyncio.timeout(seconds):
                await self._ask_for_slots()
                texts = list(scripts)
                loaded = await asyncio.gather(*(self._pipe(url).warm(texts, seconds) for url in set(self._owners)))
        except _FAILURES:
            return False
        return all(loaded)

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: str | int | bytes) -> Any:
        """See PipelinedRedis.evalsha."""
        return await self._send("EVALSHA", sha, numkeys, *keys_and_args)

    async def eval(self, script: str, numkeys: int, *keys_and_args: str | int | bytes) -> Any:
        """See PipelinedRedis.eval."""
        return await self._send("EVAL", script, numkeys, *keys_and_args)

    async def aclose(self) -> None:
        """Close every connection."""
        for pipe in self._pipes.values():
            await pipe.aclose()

    async def _send(self, command: str, script: str, numkeys: int, *keys_and_args: str | int | bytes) -> Any:
        slot = key_slot(str(keys_and_args[0]).encode())
        try:
            return await (await self._pipe_of(slot)).command(command, script, numkeys, *keys_and_args)
        except MovedError:
            self._starts = []
            return await (await self._pipe_of(slot)).command(command, script, numkeys, *keys_and_args)
        except (RedisConnectionError, OSError, TimeoutError):
            self._starts = []  # it may have failed over
            raise

    async def _pipe_of(self, slot: int) -> PipelinedRedis:
        if not self._starts:
            await self._ask_for_slots()
        return self._pipe(self._owners[bisect.bisect_right(self._starts, slot) - 1])

    def _pipe(self, url: str) -> PipelinedRedis:
        pipe = self._pipes.get(url)
        if pipe is None:
            pipe = self._pipes[url] = PipelinedRedis(url, self._timeout)
        return pipe

    async def _ask_for_slots(self) -> None:
        """Ask all nodes that are known at once; the first answer counts, since a frozen one gives none."""
        async with asyncio.timeout(self._timeout), self._asking:
            if self._starts:
                return  # somebody else asked meanwhile
            urls = list({self._url: None, **dict.fromkeys(self._pipes)})
            asked = [asyncio.ensure_future(self._pipe(url).command("CLUSTER", "SLOTS")) for url in urls]
            try:
                self._note_slots(*await _first_answer(asked, urls))
            finally:
                for each in asked:
                    each.cancel()
                await asyncio.gather(*asked, return_exceptions=True)

    def _note_slots(self, answer: list[Any], asked_url: str) -> None:
        ranges = sorted((first, last, master[0], master[1]) for first, last, master, *_ in answer)
        if not ranges or ranges[0][0] != 0 or len(ranges) > MAX_NODES * 16:
            raise RedisConnectionError("the cluster does not serve all slots")
        self._owners = [_url_of(asked_url, host, port) for _, _, host, port in ranges]
        self._starts = [first for first, *_ in ranges]


async def _first_answer(asked: Sequence["asyncio.Future[Any]"], urls: Sequence[str]) -> tuple[Any, str]:
    error: BaseException | None = None
    waiting = dict(zip(asked, urls, strict=True))
    while waiting:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            url = waiting.pop(each)
            error = each.exception()
            if error is None:
                return each.result(), url
    raise RedisConnectionError("no node of the cluster answers") from error


def _url_of(url: str, host: bytes | str | None, port: int) -> str:
    """The same URL with another address. A node that does not know its own host says none: it is where we asked."""
    parts = urlsplit(url)
    name = host.decode() if isinstance(host, bytes) else host
    credentials, at, _ = parts.netloc.rpartition("@")
    name = name or parts.hostname or "127.0.0.1"
    return urlunsplit(parts._replace(netloc=f"{credentials}{at}{f'[{name}]' if ':' in name else name}:{port}"))
