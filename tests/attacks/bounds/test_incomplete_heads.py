"""Heads without an end, and requests that are read ahead, share one bound on memory."""

import asyncio
import socket
from contextlib import ExitStack

import pytest

from apps.platform_api.server.limits import ServerLimits
from tests.attacks.bounds.edge_server import EdgeServer, becomes, client, edge_server, on_uvloop, received

LIMITS = ServerLimits(heads_in_flight=200_000)
REQUEST = b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n"
HALF = b"GET / HTTP/1.1\r\nHost: gateway\r\nX: "


def held(server: EdgeServer) -> int:
    """Return the bytes in the buffers of all connections, as they are."""
    return sum(len(getattr(each, "_buffer")) for each in server.connections._all)  # noqa: B009 - of our own protocol


async def send(server: EdgeServer, connection: socket.socket, data: bytes) -> None:
    """Send these bytes and wait until the server has read them."""
    expected = server.received + len(data)
    await asyncio.get_running_loop().sock_sendall(connection, data)
    await becomes(lambda: server.received >= expected)


def test_incomplete_heads_are_bounded_together() -> None:
    async def attack() -> None:
        async with edge_server(LIMITS) as server:
            with ExitStack() as stack:
                attackers = [stack.enter_context(client(server.address)) for _ in range(40)]
                for each in attackers:
                    await send(server, each, HALF + b"x" * 20_000)
                    assert held(server) <= 200_000
                first = await received(attackers[0])
                assert first.startswith(b"HTTP/1.1 503 ")
                assert b'"overloaded"' in first
                attackers[-1].send(b"\r\nConnection: close\r\n\r\n")
                assert (await received(attackers[-1])).startswith(b"HTTP/1.1 200 "), "the newest head is served"

    on_uvloop(attack)


@pytest.mark.parametrize("end", ["complete", "closed"])
def test_bytes_of_a_finished_head_are_released(end: str) -> None:
    """Each head takes more than half of the bound, and none is refused, since the others have ended."""

    async def attack() -> None:
        async with edge_server(ServerLimits(heads_in_flight=50_000)) as server:
            for _ in range(5):
                with client(server.address) as each:
                    for _ in range(4):
                        await send(server, each, HALF + b"x" * 30_000)
                        assert held(server) > 30_000
                        if end == "closed":
                            break
                        await send(server, each, b"\r\n\r\n")
                        assert held(server) == 0
                await becomes(lambda: server.open_sockets == 0)
            assert server.connections._held_bytes == 0
            assert not server.connections._held

    on_uvloop(attack)


def test_requests_read_ahead_count_with_the_heads() -> None:
    """The connection with the oldest waiting request ends after its response; its own request is not lost."""

    async def attack() -> None:
        async with edge_server(LIMITS) as server:
            with ExitStack() as stack:
                clients = [stack.enter_context(client(server.address)) for _ in range(6)]
                for each in clients:
                    slow = b"GET /slow HTTP/1.1\r\nHost: gateway\r\n\r\n"
                    await send(server, each, slow + REQUEST + HALF + b"x" * 50_000)
                    assert held(server) <= 200_000
                server.slow.set()
                responses = await received(clients[0])
                assert responses.count(b"HTTP/1.1 200 ") == 1
                assert b"connection: close\r\n" in responses

    on_uvloop(attack)
