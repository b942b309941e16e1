"""Valkey as tests need it: a client as the gateway makes it, a separate server, a cluster, TLS in front of one."""

import asyncio
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.asyncio import Redis

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from platform_app.config import load_settings
from platform_app.redis.clients import make_redis
from tests.support.servers.network.ports import free_port
from tests.support.servers.network.tls.certificates import self_made

SLOTS = 16_384


def connect(url: str, timeout_ms: int = 5000) -> "Redis":
    return make_redis(load_settings(database_url="postgresql://unused", redis_url=url, redis_timeout_ms=timeout_ms))


@contextmanager
def own_server(*arguments: str) -> Iterator[EmbeddedValkey]:
    """A server that a test may freeze, stop, or whose commands it counts."""
    with tempfile.TemporaryDirectory(prefix="fb") as directory:
        server = EmbeddedValkey(Path(directory) / "valkey", arguments)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def valkey_cluster(nodes: int = 3) -> Iterator[list[EmbeddedValkey]]:
    """A cluster of masters that share the slots."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fb")))
        servers = []
        for number in range(nodes):
            port, bus = free_port(), free_port()
            extra = (
                "--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "2000",
                "--cluster-require-full-coverage", "no",
            )  # fmt: skip
            server = EmbeddedValkey(directory / f"node{number}", extra, port=port)
            server.start()
            stack.callback(server.stop)
            servers.append((server, port, bus))
        clients = [redis.Redis(port=port) for _, port, _ in servers]
        for number, client in enumerate(clients):
            first, last = SLOTS * number // nodes, SLOTS * (number + 1) // nodes - 1
            _tell(client, "CLUSTER", "ADDSLOTSRANGE", first, last)
            _tell(client, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for client in clients:
            for _, port, bus in servers:
                _tell(client, "CLUSTER", "MEET", "127.0.0.1", port, bus)
        deadline = time.monotonic() + 60
        while not all(_is_whole(client, nodes) for client in clients):
            assert time.monotonic() < deadline, "the cluster does not form"
            time.sleep(0.05)
        for client in clients:
            client.close()
        yield [server for server, _, _ in servers]


def _tell(client: "redis.Redis", *command: str | int) -> Any:
    return client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py


async def tell(client: "Redis", *command: str | int) -> Any:
    """Return the response to a command that redis-py has no method for."""
    return await client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py


def _is_whole(client: "redis.Redis", nodes: int) -> bool:
    info = _tell(client, "CLUSTER", "INFO")
    text = info.decode() if isinstance(info, bytes) else str(info)
    ranges = _tell(client, "CLUSTER", "SLOTS")
    return ("cluster_state:ok" in text or "'cluster_state': 'ok'" in text) and len(ranges) == nodes


@asynccontextmanager
async def tls_in_front(
    server: EmbeddedValkey, directory: Path, certificate: tuple[Path, Path] | None = None
) -> AsyncIterator[tuple[int, Path]]:
    """A port that speaks TLS, and the file of the CA that vouches for it, unless there is a certificate already. (The
    wheel's server is built without TLS.)"""
    *made, authority = self_made(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*(certificate or made))
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(str(server.socket))
        both = [asyncio.create_task(_copy(reader, inner_writer)), asyncio.create_task(_copy(inner_reader, writer))]
        tasks.update(both)
        await asyncio.gather(*both, return_exceptions=True)
        tasks.difference_update(both)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield listening.sockets[0].getsockname()[1], authority
    finally:
        listening.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[], None] = lambda: None
) -> None:
    try:
        while data := await reader.read(65_536):
            note()
            writer.write(data)
            await writer.drain()
    except (OSError, ssl.SSLError):
        pass
    finally:
        writer.close()


@dataclass
class Traffic:
    """What passed a counting socket: each read of one side is what the other one sent at once."""

    socket: Path
    asked: int = 0
    answered: int = 0


@asynccontextmanager
async def counting_socket(server: EmbeddedValkey, directory: Path) -> AsyncIterator[Traffic]:
    """A socket in front of a server's that counts what goes through."""
    traffic = Traffic(directory / "c.sock")
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(str(server.socket))

        def asked() -> None:
            traffic.asked += 1

        def answered() -> None:
            traffic.answered += 1

        both = [
            asyncio.create_task(_copy(reader, inner_writer, asked)),
            asyncio.create_task(_copy(inner_reader, writer, answered)),
        ]
        tasks.update(both)
        await asyncio.gather(*both, return_exceptions=True)

    listening = await asyncio.start_unix_server(serve, str(traffic.socket))
    try:
        yield traffic
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
