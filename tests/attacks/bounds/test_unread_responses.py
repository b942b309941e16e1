"""A client that reads nothing of its response stays within the bounds, however its connection ends."""

import socket
from contextlib import ExitStack

import pytest

from apps.platform_api.server.limits import ServerLimits
from tests.attacks.bounds.edge_server import EdgeServer, becomes, client, edge_server, on_uvloop, received

LIMITS = ServerLimits(connections_per_address=5, write_seconds=5.0, idle_seconds=20.0)
LARGE = b"GET /large HTTP/1.1\r\nHost: gateway\r\n%b\r\n"
SMALL = b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n"


async def take_nothing(server: EdgeServer, stack: ExitStack, header: bytes = b"") -> socket.socket:
    """Send a request over a separate connection, wait until its response is written, and read nothing of it."""
    served = server.requests
    made = stack.enter_context(client(server.address, receive_bytes=1024))
    made.send(LARGE % header)
    await becomes(lambda: server.requests > served)
    return made


def test_evicted_unread_connections_stay_bounded() -> None:
    """Each new connection takes the place of one that reads nothing; the sockets of those must not stay open."""

    async def attack() -> None:
        async with edge_server(LIMITS) as server:
            with ExitStack() as stack:
                for _ in range(20):
                    await take_nothing(server, stack)
                    await becomes(lambda: server.open_sockets <= 5)
                    await server.pass_time(1.5)
                await server.pass_time(11)
                await becomes(lambda: server.open_sockets == 0)

    on_uvloop(attack)


def test_response_that_is_being_read_is_not_cut() -> None:
    """A connection whose client still reads is not idle: at the limit, the new connection is refused."""

    async def attack() -> None:
        async with edge_server(LIMITS) as server:
            with ExitStack() as stack:
                readers = [await take_nothing(server, stack, b"Connection: close\r\n") for _ in range(4)]
                readers.append(await take_nothing(server, stack))
                late = stack.enter_context(client(server.address))
                late.send(SMALL)
                assert (await received(late)).startswith(b"HTTP/1.1 503 ")
                assert (await received(readers[0])).endswith(bytes(400_000))
                await becomes(lambda: server.open_sockets == 4)

    on_uvloop(attack)


@pytest.mark.parametrize("header", [b"", b"Connection: close\r\n", b"Content-Length: 9000000\r\n"])
def test_unread_response_ends_whatever_closes_it(header: bytes) -> None:
    """The idle timeout, `Connection: close` and a body that is not read close a connection in different ways."""

    async def attack() -> None:
        async with edge_server(LIMITS) as server:
            with ExitStack() as stack:
                for _ in range(5):
                    await take_nothing(server, stack, header)
                await server.pass_time(0.5)
                assert server.open_sockets == 5
                await server.pass_time(11)
                await becomes(lambda: server.open_sockets == 0)

    on_uvloop(attack)


def test_unread_response_of_a_stopping_process_ends() -> None:
    async def attack() -> None:
        async with edge_server(LIMITS) as server:
            with ExitStack() as stack:
                await take_nothing(server, stack)
                server.shut_down()
                await server.pass_time(11)
                await becomes(lambda: server.open_sockets == 0)

    on_uvloop(attack)
