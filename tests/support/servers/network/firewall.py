"""A TCP proxy that drops established connections as firewalls do: without a message to either side."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_CHUNK = 65_536


class Firewall:
    """Forwards connections to a server's Unix socket; `drop_connections` makes it forget all that are open."""

    def __init__(self) -> None:
        self.port = 0
        self.opened = 0
        """Connections so far."""
        self.listening: asyncio.Server | None = None
        self._forgotten_until = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def drop_connections(self) -> None:
        """From now on, bytes of the open connections are not forwarded, and these stay open."""
        self._forgotten_until = self.opened

    def hang(self) -> None:
        """From now on, forward nothing: new connections are accepted, without a response."""
        self._forgotten_until = sys.maxsize

    def lose_host(self) -> None:
        """Drop the open connections, and refuse new ones: the host behind is gone."""
        assert self.listening is not None
        self.listening.close()
        self.drop_connections()

    async def serve(self, socket: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        number = self.opened
        inner_reader, inner_writer = await asyncio.open_unix_connection(socket)
        ways = [
            asyncio.create_task(self._copy(number, reader, inner_writer)),
            asyncio.create_task(self._copy(number, inner_reader, writer)),
        ]
        self._tasks.update(ways)
        await asyncio.gather(*ways, return_exceptions=True)
        self._tasks.difference_update(ways)
        inner_writer.transport.abort()
        writer.transport.abort()

    async def _copy(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(_CHUNK):
                if number > self._forgotten_until:
                    writer.write(data)
        except OSError:
            pass
        if number > self._forgotten_until:  # a firewall does not pass on the end either
            writer.close()

    async def aclose(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def firewall_before(socket: str) -> AsyncIterator[Firewall]:
    """Yield a firewall in front of the server with this Unix socket."""
    firewall = Firewall()
    listening = await asyncio.start_server(lambda r, w: firewall.serve(socket, r, w), "127.0.0.1", 0)
    firewall.listening = listening
    firewall.port = listening.sockets[0].getsockname()[1]
    try:
        yield firewall
    finally:
        listening.close()
        await firewall.aclose()
