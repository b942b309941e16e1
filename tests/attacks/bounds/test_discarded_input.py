"""Input that the server discards must not hold its event loop, however much of it has arrived."""

import asyncio
import socket
from contextlib import suppress

import pytest

from apps.platform_api.server.limits import ServerLimits
from tests.attacks.bounds.edge_server import EdgeServer, becomes, client, edge_server, on_uvloop

READ_BYTES = 256 * 1024
"""uvloop reads at most this much at once, but up to 32 times while more is there."""


def flood(connection: socket.socket, start: bytes) -> int:
    """Send this and padding, as much as fits into the sockets' buffers. Return how much it was."""
    sent = connection.send(start)
    with suppress(BlockingIOError):
        while sent < 8 << 20:
            sent += connection.send(bytes(READ_BYTES))
    return sent


async def most_in_an_iteration(server: EdgeServer, until: int) -> int:
    """Return the most bytes that the server read between two iterations of the event loop."""
    seen = most = 0
    while server.received < until:
        await asyncio.sleep(0)
        most = max(most, server.received - seen)
        seen = server.received
    return most


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"GET / HTTP/9.9\r\n\r\n", id="refused"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: gateway\r\nContent-Length: 90000000\r\n\r\n", id="not read"),
    ],
)
def test_discarded_input_leaves_iterations_to_others(start: bytes) -> None:
    async def attack() -> None:
        async with edge_server(ServerLimits()) as server:
            with client(server.address) as connection:
                sent = flood(connection, start)
                assert sent > 4 * READ_BYTES
                async with asyncio.timeout(60):
                    assert await most_in_an_iteration(server, sent) <= 2 * READ_BYTES

    on_uvloop(attack)


def test_discarded_input_still_has_its_bound() -> None:
    """Of a client that sends on, the server reads no more than the bound and what was read with it."""

    async def attack() -> None:
        limits = ServerLimits(linger_bytes=1 << 20)
        async with edge_server(limits) as server:
            with client(server.address) as connection:
                flood(connection, b"GET / HTTP/9.9\r\n\r\n")
                await becomes(lambda: server.open_sockets == 0)
            assert server.received <= limits.linger_bytes + 2 * READ_BYTES

    on_uvloop(attack)
