"""What a server's protocol class reads: it is fed chunk by chunk over a transport in memory, before a recording app."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from tests.attacks.differential.reading import Reading, ReadRequest
from tests.attacks.raw_http import ResponseReader

ProtocolFactory = Callable[..., asyncio.Protocol]
"""What uvicorn's `http` option takes: called with config, server_state, app_state and _loop."""
_TURNS = 12
"""So many turns of the loop are enough for everything that follows from one chunk: nothing here waits for a socket."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PEER = ("127.0.0.1", 50_000)


class RecordingApp:
    """Reads each request to its end, records it, and responds with 200 and its number."""

    def __init__(self) -> None:
        self.requests: list[ReadRequest] = []
        self.methods: list[str] = []
        """Of all requests that began."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        self.methods.append(scope["method"])
        body = await _whole_body(receive)
        if body is None:
            await _respond(send, 400, b"broken", (b"connection", b"close"))
            return
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        self.requests.append(ReadRequest(scope["method"], target, tuple(map(tuple, scope["headers"])), body))
        await _respond(send, 200, str(len(self.requests)).encode())


async def _whole_body(receive: Receive) -> bytes | None:
    """Read a request's body; None where the server says that it cannot be had."""
    body = bytearray()
    while True:
        try:
            message = await receive()
        except Exception:  # noqa: BLE001 - how a server says it is its own affair
            return None
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


async def _respond(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


class MemoryTransport(asyncio.Transport):
    """A connection without a socket: what is written is kept, and a client that reads at once takes it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.ended = False
        """The server sends nothing more."""
        self.paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See asyncio.WriteTransport."""
        if not self.ended:
            self.written += data

    def writelines(self, list_of_data: Any) -> None:
        """See asyncio.WriteTransport."""
        for data in list_of_data:
            self.write(data)

    def write_eof(self) -> None:
        """See asyncio.WriteTransport."""
        self.ended = True

    def can_write_eof(self) -> bool:
        """See asyncio.WriteTransport."""
        return True

    def close(self) -> None:
        """See asyncio.BaseTransport."""
        self.ended = True

    def abort(self) -> None:
        """See asyncio.WriteTransport."""
        self.ended = True

    def is_closing(self) -> bool:
        """See asyncio.BaseTransport."""
        return self.ended

    def pause_reading(self) -> None:
        """See asyncio.ReadTransport."""
        self.paused = True

    def resume_reading(self) -> None:
        """See asyncio.ReadTransport."""
        self.paused = False

    def is_reading(self) -> bool:
        """See asyncio.ReadTransport."""
        return not self.paused

    def get_write_buffer_size(self) -> int:
        """See asyncio.WriteTransport."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See asyncio.WriteTransport."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See asyncio.BaseTransport."""
        return {"peername": _PEER, "sockname": ("127.0.0.1", 80)}.get(name, default)


async def read_by_server(factory: ProtocolFactory, chunks: Sequence[bytes]) -> Reading:
    """Feed a connection's bytes to a protocol, in these chunks, and return what the application was given."""
    app = RecordingApp()
    config = uvicorn.Config(app, lifespan="off", log_config=None, server_header=False, date_header=False)
    config.load()
    loop = asyncio.get_running_loop()
    state = ServerState()
    protocol = factory(config=config, server_state=state, app_state={}, _loop=loop)
    transport = MemoryTransport()
    protocol.connection_made(transport)
    for chunk in chunks:
        await _settle()
        assert transport.ended or not transport.paused, "the server reads no more, although its application waits"
        if transport.ended:
            break
        protocol.data_received(chunk)
    await _settle()
    requests, ended = tuple(app.requests), transport.ended
    protocol.connection_lost(None)
    await _settle()
    for task in list(state.tasks):
        task.cancel()
    reader = ResponseReader(app.methods)
    reader.feed(bytes(transport.written), closed=True)
    assert reader.received in (b"", _CONTINUE), f"bytes that are no response: {reader.received[:80]!r}"
    statuses = tuple(response.status for response in reader.responses)
    return Reading(requests, refused=ended and bool(statuses) and statuses[-1] >= 400, statuses=statuses)


async def _settle() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)
