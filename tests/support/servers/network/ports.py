"""Ports for servers that a test starts."""

import itertools
import os
import random
import socket
from collections.abc import Iterator

_FIRST, _LAST = 20_000, 32_000
"""Below the ports that Linux, macOS and Windows assign to outgoing connections and to programs without a fixed port: a
port that is free here stays free until its server starts."""
_PROCESSES = 16
"""Maximum number of pytest processes; each has its own ports."""


def _ports() -> Iterator[int]:
    """All of this process, from anywhere: another run of the tests on this machine is likely elsewhere."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PROCESSES
    mine = list(range(_FIRST + worker, _LAST, _PROCESSES))
    start = random.randrange(len(mine))
    return itertools.cycle(mine[start:] + mine[:start])


_candidates = _ports()


def free_port() -> int:
    """Return an unused TCP port on 127.0.0.1, another one with each call."""
    for port in itertools.islice(_candidates, (_LAST - _FIRST) // _PROCESSES):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no TCP port between {_FIRST} and {_LAST} is free on 127.0.0.1")


def takes_connections(port: int) -> bool:
    """Return whether a server on 127.0.0.1 accepts connections."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
