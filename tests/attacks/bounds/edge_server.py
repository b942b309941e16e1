"""The gateway's HTTP server in process, in front of a small application, with a clock that the test sets."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from apps.platform_api.server.connections import SWEEP_SECONDS, Connections
from apps.platform_api.server.limits import ServerLimits
from apps.platform_api.server.protocol import protocol_factory
from tests.attacks.raw_http import Address

LARGE_BODY = bytes(400_000)


class EdgeServer:
    """A running server. Its connections are checked only when the test says so."""

    def __init__(self, connections: Connections, state: ServerState, clock: list[float]) -> None:
        self.address: Address = ("127.0.0.1", 0)
        self.connections = connections
        self._state = state
        self._clock = clock
        self.received = 0
        """The bytes that the server has read."""
        self.slow = asyncio.Event()
        """`/slow` responds once this is set."""

    @property
    def open_sockets(self) -> int:
        """The admitted connections whose sockets are open, as uvicorn counts them."""
        return len(self._state.connections)

    @property
    def requests(self) -> int:
        """The requests whose responses were written."""
        return self._state.total_requests

    def shut_down(self) -> None:
        """Close all connections, as uvicorn does when the process stops."""
        for each in list(self._state.connections):
            each.shutdown()

    async def respond(self, scope: Scope, _: Receive, send: Send) -> None:
        """Respond as an ASGI application, by the path."""
        if scope["path"] == "/slow":
            await self.slow.wait()
        body = LARGE_BODY if scope["path"] == "/large" else b"ok"
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})

    def counting(self, protocol: asyncio.Protocol) -> asyncio.Protocol:
        """Count what a protocol reads."""
        deliver = protocol.data_received

        def data_received(data: bytes) -> None:
            deliver(data)
            self.received += len(data)

        protocol.data_received = data_received  # type: ignore[method-assign]  # of this one only
        return protocol

    async def pass_time(self, seconds: float) -> None:
        """Let this time pass for the server, with all checks of connections that are due in it."""
        for _ in range(int(seconds / SWEEP_SECONDS)):
            self._clock[0] += SWEEP_SECONDS
            self.connections._sweep()
            await asyncio.sleep(0)


@asynccontextmanager
async def edge_server(limits: ServerLimits, host: str = "127.0.0.1") -> AsyncIterator[EdgeServer]:
    """Serve on a free port. The kernel takes little of what a client does not read."""
    clock = [1000.0]
    connections = Connections(limits, lambda: clock[0])
    state = ServerState()
    running = EdgeServer(connections, state, clock)
    config = uvicorn.Config(running.respond, interface="asgi3", lifespan="off", log_config=None)
    config.load()
    make = protocol_factory(limits, connections)

    def accept() -> asyncio.Protocol:
        return running.counting(make(config=config, server_state=state, app_state={}))

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        if ":" in host:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        listening.bind((host, 0))
        port: int = listening.getsockname()[1]
        loop = asyncio.get_running_loop()
        server = await loop.create_server(accept, sock=listening, backlog=1024)
        running.address = ("127.0.0.1", port)
        try:
            yield running
        finally:
            server.close()
            for each in list(state.connections):
                each.abort()  # type: ignore[union-attr]  # our own protocol
            if connections._timer is not None:
                connections._timer.cancel()


async def becomes(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds. Only a failing test reaches the timeout."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


def client(address: Address, receive_bytes: int | None = None) -> socket.socket:
    """Connect. With a small receive buffer, what the client does not read stays in the server."""
    made = socket.socket()
    if receive_bytes is not None:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    made.connect(address)
    made.setblocking(False)
    return made


async def received(connection: socket.socket) -> bytes:
    """Read until the server ends the connection."""
    data = b""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(60):
            while part := await loop.sock_recv(connection, 65_536):
                data += part
    except ConnectionError:
        pass
    return data


def on_uvloop(test: Callable[[], Awaitable[Any]]) -> None:
    """Run a test on the event loop that workers use; its transports differ from asyncio's."""

    async def run() -> None:
        await test()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
