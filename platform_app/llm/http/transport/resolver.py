"""Look up the addresses of a host, and cache them for a minute."""

import asyncio
import socket
from typing import Any

_CACHE_SECONDS = 60.0
AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]
"""An entry of getaddrinfo."""


class Resolver:
    """Coalesces concurrent lookups of a host, and rotates its addresses. The hosts are those of the config file."""

    def __init__(self) -> None:
        self._cache: dict[tuple[str, int], tuple[float, list[AddressInfo]]] = {}
        self._lookups: dict[tuple[str, int], asyncio.Task[list[AddressInfo]]] = {}

    async def resolve(self, host: str, port: int) -> list[AddressInfo]:
        """Return at least one address.

        Raises:
            OSError: the host has no address.
        """
        loop = asyncio.get_running_loop()
        at, infos = self._cache.get((host, port), (0.0, []))
        if not infos or loop.time() - at > _CACHE_SECONDS:
            infos = await asyncio.shield(self._lookup(host, port, loop))
            self._cache[host, port] = (loop.time(), infos)
        infos.append(infos.pop(0))
        return list(infos)

    def forget(self, host: str, port: int) -> None:
        """Drop the cached addresses after none of them could be reached."""
        self._cache.pop((host, port), None)

    def _lookup(self, host: str, port: int, loop: asyncio.AbstractEventLoop) -> "asyncio.Task[list[AddressInfo]]":
        task = self._lookups.get((host, port))
        if task is None:
            task = self._lookups[host, port] = loop.create_task(_addresses(host, port), name="resolve")
            task.add_done_callback(lambda done: self._lookup_done(host, port, done))
        return task

    def _lookup_done(self, host: str, port: int, task: "asyncio.Task[list[AddressInfo]]") -> None:
        del self._lookups[host, port]
        if not task.cancelled():
            task.exception()  # the waiting tasks got it, if there are any left


async def _addresses(host: str, port: int) -> list[AddressInfo]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if not found:
        raise OSError(f"no address for {host}")
    return [(family, kind, protocol, name, tuple(address)) for family, kind, protocol, name, address in found]
