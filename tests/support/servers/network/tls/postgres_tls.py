"""TLS in front of the embedded PostgreSQL, whose wheel is built without it."""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from apps.platform_cli.embedded.postgres import EmbeddedPostgres

_SSL_REQUEST = 80_877_103
_CHUNK = 65_536


@dataclass
class TlsFront:
    """What the front saw: the first bytes of each connection that asked for no TLS, and the TLS connections."""

    port: int = 0
    in_clear: list[bytes] = field(default_factory=list)
    encrypted: int = 0


@asynccontextmanager
async def postgres_tls_front(
    server: EmbeddedPostgres, certificate: tuple[Path, Path] | None, *, client_ca: Path | None = None
) -> AsyncIterator[TlsFront]:
    """A port of 127.0.0.1 that speaks PostgreSQL's protocol, with TLS if there is a certificate.

    TLS begins as the client likes: after an SSLRequest, or at once (`sslnegotiation=direct`).
    """
    context = _server_context(certificate, client_ca)
    front = TlsFront()
    socket = str(server.socket_directory / ".s.PGSQL.5432")
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            first = await reader.readexactly(8)
            if struct.unpack("!ii", first) == (8, _SSL_REQUEST):
                writer.write(b"S" if context else b"N")
                await writer.drain()
                if context is not None:
                    await writer.start_tls(context)
                    front.encrypted += 1
                    first = b""
                else:
                    first = await reader.readexactly(8)
            if first:
                front.in_clear.append(first)
            await _relay(reader, writer, socket, first)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.transport.abort()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    front.port = listening.sockets[0].getsockname()[1]
    try:
        yield front
    finally:
        listening.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def postgres_direct_tls(server: EmbeddedPostgres, certificate: tuple[Path, Path]) -> AsyncIterator[int]:
    """A port where TLS begins with the first byte, as PostgreSQL 17 allows."""
    context = _server_context(certificate, None)
    assert context is not None
    context.set_alpn_protocols(["postgresql"])
    socket = str(server.socket_directory / ".s.PGSQL.5432")
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await _relay(reader, writer, socket, b"")
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.transport.abort()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _server_context(certificate: tuple[Path, Path] | None, client_ca: Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, socket: str, first: bytes) -> None:
    inner_reader, inner_writer = await asyncio.open_unix_connection(socket)
    inner_writer.write(first)
    ways = [
        asyncio.create_task(_copy(reader, inner_writer)),
        asyncio.create_task(_copy(inner_reader, writer)),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        inner_writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
