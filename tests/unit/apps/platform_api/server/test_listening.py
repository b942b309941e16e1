"""Connections that the kernel has accepted and no server yet, when a listening socket closes."""

import asyncio
import socket

import pytest

from apps.platform_api.server.listening import accept_waiting


async def test_waiting_connections_are_returned_and_the_port_closes() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    address = listening.getsockname()
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, sock=listening)
    # The event loop does not run between here and the close, so the server accepts none of them.
    clients = [socket.create_connection(address, timeout=300) for _ in range(3)]
    for client in clients:
        client.sendall(b"request")
    accepted = accept_waiting([server], [listening])
    assert sorted(each.getpeername() for each in accepted) == sorted(each.getsockname() for each in clients)
    for each in accepted:
        each.setblocking(True)
        assert each.recv(100) == b"request"
        each.sendall(b"response")
        each.close()
    for client in clients:
        assert client.recv(100) == b"response"
        client.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=300)
