"""A client that sends exactly the given bytes, and reads responses strictly, with h11 as the parser."""

import itertools
import random
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import h11

Address = tuple[str, int]

DEADLINE_SECONDS = 30.0
"""How long an exchange may take. Generous: only a server that never ends the connection reaches it."""
_MAX_RECEIVED = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Response:
    """One whole response. `interim` lists the 1xx statuses that came before it."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    interim: tuple[int, ...] = ()

    def header(self, name: str) -> str | None:
        """Return the value of a header, None if it is missing; a repeated header is a fault."""
        values = [value.decode("latin-1") for key, value in self.headers if key == name.encode()]
        if len(values) > 1:
            raise ValueError(f"The response repeats the header {name!r}: {values}")
        return values[0] if values else None

    @property
    def request_id(self) -> str | None:
        """The id of the request that this response belongs to."""
        return self.header("x-request-id")


@dataclass(frozen=True, slots=True)
class Exchange:
    """What came back over one connection, until `closed` or the deadline."""

    responses: Sequence[Response]
    closed: bool
    rest: bytes = b""
    """Bytes behind the last whole response: must be empty."""


class ResponseReader:
    """Split received bytes into responses. `methods` are those of the requests, since HEAD changes the framing."""

    def __init__(self, methods: Sequence[str] = ()) -> None:
        self._methods = list(methods)
        self.received = b""
        self.responses: list[Response] = []

    def feed(self, data: bytes, *, closed: bool = False) -> None:
        """Take received bytes, and the end of the connection.

        Raises:
            h11.RemoteProtocolError: the bytes are not strictly HTTP/1.1.
        """
        self.received += data
        while self.received:
            method = self._methods[len(self.responses)] if len(self.responses) < len(self._methods) else "GET"
            found = _first_response(self.received, method, closed)
            if found is None:
                return
            response, self.received = found
            self.responses.append(response)


def _first_response(received: bytes, method: str, closed: bool) -> tuple[Response, bytes] | None:
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=1024 * 1024)
    parser.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(received)
    head: h11.Response | None = None
    interim: list[int] = []
    body = b""
    ended = False
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            if not closed or ended or head is None:
                return None
            ended = True
            parser.receive_data(b"")
        elif isinstance(event, h11.InformationalResponse):
            interim.append(event.status_code)
        elif isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            return Response(head.status_code, list(head.headers), body, tuple(interim)), parser.trailing_data[0]
        else:
            return None  # the connection closed before a response


@dataclass
class RawConnection:
    """One TCP connection: `with RawConnection(address) as connection: connection.send(b"…")`."""

    address: Address
    methods: Sequence[str] = ()
    timeout: float = DEADLINE_SECONDS
    closed: bool = False
    reader: ResponseReader = field(init=False)

    def __post_init__(self) -> None:
        self.reader = ResponseReader(self.methods)
        self._deadline = time.monotonic() + self.timeout
        self._socket = socket.create_connection(self.address, timeout=self.timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> "RawConnection":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> bool:
        """Send all bytes; False if the server closed the connection before it took them."""
        try:
            self._socket.settimeout(self._left())
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def send_split(self, chunks: Sequence[bytes]) -> bool:
        """Send chunk by chunk, each in its own packet where the kernel allows it."""
        return all(self.send(chunk) for chunk in chunks)

    def half_close(self) -> None:
        """Signal to the server that no more bytes follow."""
        self._socket.shutdown(socket.SHUT_WR)

    def receive(self) -> bytes:
        """Return the next received bytes, b"" at the end of the connection.

        Raises:
            TimeoutError: the deadline has passed.
        """
        self._socket.settimeout(self._left())
        try:
            data = self._socket.recv(65_536)
        except ConnectionResetError:
            data = b""
        self.closed = not data
        self.reader.feed(data, closed=self.closed)
        assert len(self.reader.received) < _MAX_RECEIVED, "the response has no end"
        return data

    def response(self) -> Response:
        """Read one more response; fails if the connection ends before it is whole."""
        already = len(self.reader.responses)
        while len(self.reader.responses) == already:
            if not self.receive():
                break
        assert len(self.reader.responses) > already, f"the connection ended; received: {self.reader.received[:200]!r}"
        return self.reader.responses[already]

    def until_closed(self) -> Exchange:
        """Read until the server closes the connection or the deadline passes."""
        try:
            while not self.closed and self.receive():
                pass
        except TimeoutError:
            pass
        return Exchange(self.reader.responses, self.closed, self.reader.received)

    def _left(self) -> float:
        return max(self._deadline - time.monotonic(), 0.001)


def exchange(
    address: Address, chunks: Sequence[bytes], methods: Sequence[str] = (), timeout: float = DEADLINE_SECONDS
) -> Exchange:
    """Send these chunks over a separate connection and read until the server closes it."""
    with RawConnection(address, methods, timeout) as connection:
        connection.send_split(chunks)
        return connection.until_closed()


def split(data: bytes, random_source: random.Random, parts: int = 8) -> list[bytes]:
    """Cut the bytes at random places into at most `parts` chunks."""
    cuts = sorted({0, len(data), *(random_source.randrange(len(data)) for _ in range(parts - 1))} if data else {0})
    return [data[start:end] for start, end in itertools.pairwise(cuts)]
