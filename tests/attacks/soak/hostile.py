"""The attacker, a separate process: one kind of hostile input, again and again, for some seconds.

    python -m tests.attacks.soak.hostile TURN PORT KEY SECONDS

It comes from 127.0.0.2, so that what the gateway does to an address is not done to the legitimate client. Each turn is
bounded: `_CLIENTS` connections at once, except where the number of connections is the attack, and about `_FLOOD` bytes
over each.
"""

import itertools
import json
import random
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

from tests.attacks.corpus import CORPUS
from tests.attacks.corpus.build import CHAT_LINE, CHUNKED, JSON, KEY, chunked, get, head, sized
from tests.attacks.corpus.case import KEY_TEXT, fill, probe
from tests.attacks.fuzz import fuzzed

_SOURCE = ("127.0.0.2", 0)
_CLIENTS = 4
_FLOOD = 8 * 1024 * 1024
_PAUSE_SECONDS = 0.02
"""Between two attacks of one client: the machine has to serve, too."""
_HELD_SECONDS = 3.0
"""How long connections are held open that do nothing."""
_SILENT_CONNECTIONS = 400


class Attacker:
    """Sends hostile bytes to one gateway until the time is over."""

    def __init__(self, port: int, key: str, seconds: float) -> None:
        self._port = port
        self._key = key
        self._ends = time.monotonic() + seconds

    def run(self, turn: str) -> None:
        """Repeat one kind of input with several clients at once."""
        attack = TURNS[turn]
        with ThreadPoolExecutor(_CLIENTS) as pool:
            list(pool.map(lambda number: self._repeat(attack, number), range(_CLIENTS)))

    def connect(self) -> socket.socket:
        """A new connection from the attacker's address."""
        return socket.create_connection(("127.0.0.1", self._port), timeout=5, source_address=_SOURCE)

    def send(self, data: bytes, wait: float = 1.0) -> None:
        """Send bytes over a separate connection, and read for a moment."""
        with self.connect() as connection, suppress(OSError):
            connection.settimeout(wait)
            connection.sendall(data)
            while connection.recv(65_536):
                pass

    def filled(self, data: bytes) -> bytes:
        """Put the key into a request."""
        return data.replace(KEY_TEXT.encode(), self._key.encode())

    def running(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self._ends

    def _repeat(self, attack: Callable[["Attacker", int], None], client: int) -> None:
        for number in itertools.count(client * 1_000_000):
            if not self.running():
                return
            with suppress(OSError):
                attack(self, number)
            time.sleep(_PAUSE_SECONDS)

    @property
    def key(self) -> str:
        """The chat key."""
        return self._key


def _corpus(attacker: Attacker, number: int) -> None:
    run = fill(CORPUS[number * 7 % len(CORPUS)], attacker.key)
    attacker.send(run.data + probe(run), wait=0.3)


def _fuzz(attacker: Attacker, number: int) -> None:
    attacker.send(fuzzed(7, number, attacker.key).data)


def _large_heads(attacker: Attacker, number: int) -> None:
    start = get().removesuffix(b"\r\n\r\n")
    field = b"X-Padding: " + b"x" * 8_000 if number % 2 else b"X-%d: y" % number
    attacker.send(start + b"\r\n" + b"\r\n".join([field] * (_FLOOD // len(field))))


def _large_trailers(attacker: Attacker, _: int) -> None:
    start = attacker.filled(head(CHAT_LINE, KEY, JSON, CHUNKED)) + b"2\r\n{}\r\n0\r\n"
    attacker.send(start + b"X-Trailer: value\r\n" * (_FLOOD // 18))


def _pipelines(attacker: Attacker, _: int) -> None:
    attacker.send(get("/livez") * 20_000)


def _tiny_chunks(attacker: Attacker, _: int) -> None:
    attacker.send(attacker.filled(head(CHAT_LINE, KEY, JSON, CHUNKED)) + b"1\r\n \r\n" * 200_000)


def _silent_connections(attacker: Attacker, number: int) -> None:
    """Say nothing, half a head, or half a body, and stay."""
    starts = (
        b"",
        b"GET /livez HT",
        get()[:-2],
        attacker.filled(head(CHAT_LINE, KEY, JSON, "Content-Length: 100")) + b"{",
    )
    with ExitStack() as held:
        for index in range(_SILENT_CONNECTIONS // _CLIENTS):
            held.enter_context(connection := attacker.connect())
            connection.sendall(starts[(number + index) % len(starts)])
        time.sleep(_HELD_SECONDS)


def _unfinished_bodies(attacker: Attacker, _: int) -> None:
    """Ten bodies of almost 10 MB by each client, none of them ended."""
    start = attacker.filled(head(CHAT_LINE, KEY, JSON, "Content-Length: 10000000")) + b'{"prompt": "'
    with ExitStack() as held:
        for _index in range(10):
            held.enter_context(connection := attacker.connect())
            connection.settimeout(1)
            with suppress(OSError):
                connection.sendall(start + b"x" * 9_000_000)
        time.sleep(1)


def _unwanted_bodies(attacker: Attacker, _: int) -> None:
    """A body behind a 401."""
    attacker.send(head(CHAT_LINE, JSON, CHUNKED) + chunked(*[b"x" * 65_000] * (_FLOOD // 65_000))[:-5])


def _slow_readers(attacker: Attacker, _: int) -> None:
    """Large responses that are not read. They repeat the prompt, so that the attack is the waiting and not the work."""
    body = b'{"prompt": "' + b"x" * 1_000_000 + b'"}'
    with ExitStack() as held:
        for _index in range(4):
            held.enter_context(connection := attacker.connect())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            connection.sendall(attacker.filled(head(CHAT_LINE, KEY, JSON, sized(body))) + body)
        time.sleep(_HELD_SECONDS)


def _json_bombs(attacker: Attacker, number: int) -> None:
    bombs = (
        lambda: json.dumps({"k" * 100_000: [0] * 100_000}),
        lambda: json.dumps({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}] * 256}] * 2_048}),
        lambda: json.dumps({f"unknown-{field}": 0 for field in range(300_000)}),
        lambda: json.dumps({"prompt": "\ud800" * 100_000, "metadata": {"a": ["\ud800"] * 50_000}}),
        lambda: "[" * 1_000_000,
        lambda: '{"prompt": ' + "9" * 1_000_000 + "}",
    )
    body = bombs[number % len(bombs)]().encode()
    attacker.send(attacker.filled(head(CHAT_LINE, KEY, JSON, sized(body))) + body, wait=10)


def _bad_keys(attacker: Attacker, number: int) -> None:
    bad = head("GET /v1/models HTTP/1.1", f"Authorization: Bearer fbp_test_{number:012d}_{'s' * 40}")
    attacker.send(bad * 50 + head("GET /v1/models HTTP/1.1", "Connection: close"))


def _half_closed(attacker: Attacker, _: int) -> None:
    """Ask, and leave at once."""
    body = b'{"prompt": "tokens:500", "stream": true}'
    with attacker.connect() as connection:
        connection.sendall(attacker.filled(head(CHAT_LINE, KEY, JSON, sized(body))) + body)
        connection.shutdown(random.choice((socket.SHUT_WR, socket.SHUT_RDWR)))


TURNS: dict[str, Callable[[Attacker, int], None]] = {
    "corpus": _corpus,
    "fuzz": _fuzz,
    "large-heads": _large_heads,
    "large-trailers": _large_trailers,
    "pipelines": _pipelines,
    "tiny-chunks": _tiny_chunks,
    "silent-connections": _silent_connections,
    "unfinished-bodies": _unfinished_bodies,
    "unwanted-bodies": _unwanted_bodies,
    "slow-readers": _slow_readers,
    "json-bombs": _json_bombs,
    "bad-keys": _bad_keys,
    "half-closed": _half_closed,
}


if __name__ == "__main__":
    Attacker(int(sys.argv[2]), sys.argv[3], float(sys.argv[4])).run(sys.argv[1])
