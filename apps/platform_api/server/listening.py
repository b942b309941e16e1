"""The end of a listening socket, without a reset for the connections that wait in it."""

import asyncio
import socket
from collections.abc import Iterable


def accept_waiting(
    servers: Iterable[asyncio.AbstractServer], listening: Iterable[socket.socket]
) -> list[socket.socket]:
    """Close the listening sockets, and return the connections that no server has accepted yet.

    The kernel completes handshakes by itself. When the last process closes the socket, it resets what waits there. So
    the queue is emptied at the last moment: between the last attempt and the close there is no other work.
    """
    accepted: list[socket.socket] = []
    own = [each.dup() for each in listening]  # a server closes its socket
    for server in servers:
        server.close()
    for each in listening:
        each.close()
    for each in own:
        with each:
            each.setblocking(False)
            while (connection := _accept(each)) is not None:
                accepted.append(connection)
    return accepted


def _accept(listening: socket.socket) -> socket.socket | None:
    """Return the next connection that waits, or None."""
    while True:
        try:
            connection, _ = listening.accept()
        except ConnectionAbortedError:
            continue  # its client left
        except OSError:
            return None
        connection.setblocking(False)
        return connection
