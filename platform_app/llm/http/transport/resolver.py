"""The addresses of a host, remembered for a minute."""

import asyncio
import socket
from typing import Any

_KEPT_SECONDS = 60.0
AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]
"""An entry of getaddrinfo."""


class Resolver:
    """Asks once for however many wait, and in turn gives each address first. Hosts are those of the config file."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[float, list[AddressInfo]]] = {}
        self._asking: dict[tuple[str, int], asyncio.Task[list[AddressInfo]]] = {}

    async def resolve(self, host: str, port: int) -> list[AddressInfo]:
        """At least one address.

        Raises:
            OSError: there is none.
        """
        loop = asyncio.get_running_loop()
        at, infos = self._known.get((host, port), (0.0, []))
        if not infos or loop.time() - at > _KEPT_SECONDS:
            infos = await asyncio.shield(self._ask(host, port, loop))
            self._known[host, port] = (loop.time(), infos)
        infos.append(infos.pop(0))
        return list(infos)

    def forget(self, host: str, port: int) -> None:
        """None of its addresses could be reached."""
        self._known.pop((host, port), None)

    def _ask(self, host: str, port: int, loop: asyncio.AbstractEventLoop) -> "asyncio.Task[list[AddressInfo]]":
        task = self._asking.get((host, port))
        if task is None:
            task = self._asking[host, port] = loop.create_task(_addresses(host, port), name="resolve")
            task.add_done_callback(lambda done: self._asked(host, port, done))
        return task

    def _asked(self, host: str, port: int, task: "asyncio.Task[list[AddressInfo]]") -> None:
        del self._asking[host, port]
        if not task.cancelled():
            task.exception()  # whoever waited has it; perhaps nobody does any more


async def _addresses(host: str, port: int) -> list[AddressInfo]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if not found:
        raise OSError(f"no address for {host}")
    return [(family, kind, protocol, name, tuple(address)) for family, kind, protocol, name, address in found]
