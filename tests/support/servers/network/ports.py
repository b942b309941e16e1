"""Ports for servers that a test starts."""

import atexit
import functools
import itertools
import random
import socket
from collections.abc import Iterator

_FIRST, _LAST = 20_000, 32_000
"""Below the ports that Linux, macOS and Windows assign to outgoing connections and to programs without a fixed port: a
port that is free here stays free until its server starts."""
_BLOCK = 500
"""The ports of one process of tests. Other runs on this machine have other blocks."""


def free_port() -> int:
    """Return an unused TCP port on 127.0.0.1, another one with each call."""
    for port in itertools.islice(_own_ports(), _BLOCK):
        if (probe := _bound(port)) is not None:
            probe.close()
            return port
    raise RuntimeError(f"no TCP port of this process's {_BLOCK} is free on 127.0.0.1")


@functools.cache
def _own_ports() -> Iterator[int]:
    blocks = list(range(_FIRST, _LAST, _BLOCK))
    random.shuffle(blocks)
    for first in blocks:
        if (held := _bound(first)) is not None:  # until this process ends
            atexit.register(held.close)
            return itertools.cycle(range(first + 1, first + _BLOCK))
    raise RuntimeError(f"other processes hold all {len(blocks)} blocks of ports between {_FIRST} and {_LAST}")


def _bound(port: int) -> socket.socket | None:
    bound = socket.socket()
    try:
        bound.bind(("127.0.0.1", port))
    except OSError:
        bound.close()
        return None
    return bound


def takes_connections(port: int) -> bool:
    """Return whether a server on 127.0.0.1 accepts connections."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
