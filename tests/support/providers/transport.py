"""A pool and a scripted server for one scenario."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.http.transport.response_stream import ResponseStream
from platform_app.llm.http.transport.target import Target, request_head, target_of
from platform_app.llm.http.transport.tls import TlsContexts
from tests.support.servers.network.tcp import Server, read_request

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\n"
SECONDS = 30.0
"""Longer than anything in these tests takes."""


class Client:
    """Sends requests to one server, over a pool."""

    def __init__(self, pool: ConnectionPool, target: Target) -> None:
        self.pool = pool
        self.target = target

    async def ask(self, body: bytes = b"{}", connect_seconds: float = SECONDS) -> ResponseStream:
        """Send a request and return its response once the head has arrived."""
        exchange = await self.send(body, connect_seconds)
        await exchange.head(until())
        return exchange

    async def send(self, body: bytes = b"{}", connect_seconds: float = SECONDS) -> ResponseStream:
        """Send a request and return its response at once."""
        head = request_head(b"POST", self.target, b"", len(body))
        return await self.pool.send(self.target.address, head, body, until(connect_seconds))

    async def body(self) -> bytes:
        """Return the whole body of a response."""
        return await read(await self.ask())


def until(seconds: float = SECONDS) -> float:
    """Return the running loop's time so many seconds from now."""
    return asyncio.get_running_loop().time() + seconds


async def read(exchange: ResponseStream, seconds: float = SECONDS) -> bytes:
    """Read the rest of a response."""
    parts = []
    while part := await exchange.read(until(seconds)):
        parts.append(part)
    return b"".join(parts)


async def whole(exchange: ResponseStream) -> bytes:
    """Read a response: its head, then its body."""
    await exchange.head(until())
    return await read(exchange)


@asynccontextmanager
async def talking(
    serve: Handler,
    *,
    connections: int = 10,
    keep_seconds: float = 15,
    server_tls: ssl.SSLContext | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Client]:
    """Create a client of a server that handles each connection with this coroutine."""
    pool = ConnectionPool(connections, keep_seconds=keep_seconds, tls=TlsContexts(plain=tls))
    async with Server(serve, server_tls) as server:
        try:
            yield Client(pool, target_of(f"{server.url}/v1"))
        finally:
            await pool.aclose()


def always(*responses: bytes, pause: float = 0.0) -> Handler:
    """Respond to the first request with the first of these bytes, and so on; the last ones are repeated. `pause` is in
    seconds, before every byte."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = list(responses)
        while True:
            await read_request(reader)
            response = left.pop(0) if len(left) > 1 else left[0]
            for part in [response] if not pause else [response[i : i + 1] for i in range(len(response))]:
                await asyncio.sleep(pause)
                writer.write(part)
            await writer.drain()

    return serve


def once(response: bytes) -> Handler:
    """Respond to one request with these bytes and close the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(response)
        await writer.drain()

    return serve


def sized(body: bytes, more: bytes = b"") -> bytes:
    """Return a valid response."""
    return OK + more + b"Content-Length: %d\r\n\r\n" % len(body) + body
