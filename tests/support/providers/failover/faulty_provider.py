"""A provider that fails on purpose, byte by byte; the model's name selects the fault.

It responds in the format of the request's path: chat completions, Responses or Messages.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tests.support.gateway.in_process.generated import Generated, Segment, events_of, whole_of

WORDS = [f"word{number}" for number in range(60)]
TEXT = " ".join(WORDS)
"""The text of every good response: sixty words, so that a missing one is noticed."""
USAGE = {"prompt_tokens": 12, "completion_tokens": 60, "total_tokens": 72}
GENERATED = Generated((Segment("text", ("word0", *(f" {word}" for word in WORDS[1:]))),), (0,) * len(WORDS))
PATHS = {
    b"/v1/chat/completions": "openai",
    b"/v1/responses": "openai-responses",
    b"/v1/messages": "anthropic",
    b"/v1/messages/count_tokens": "anthropic",
}
"""The wire format of each path."""
BEFORE_WORDS = {"openai-responses": 4, "anthropic": 2}
"""The events of a stream before its first content."""
CUT_AFTER, STALL_AFTER, MALFORMED_AT = 40, 20, 10
RETRY_AFTER_SECONDS = 1


@dataclass
class Attempt:
    """One request that arrived."""

    model: str
    at: float
    messages: list[dict[str, Any]]
    """The input, of a request in the Responses format."""
    head: bytes = b""
    """The request line and the headers, as they were sent."""
    client_gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the gateway closed the connection before the response was complete."""


@dataclass
class Call:
    """The tools of a fault: the request, and methods to respond."""

    attempt: Attempt
    number: int
    """1 for the first request for this model since the last reset."""
    stream: bool
    writer: asyncio.StreamWriter
    wire: str = "openai"

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def respond(self, status: int, body: Mapping[str, Any], headers: str = "") -> None:
        content = json.dumps(body).encode()
        head = (
            f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n{headers}\r\n"
        )
        await self.send(head.encode() + content)

    async def fail(self, status: int, code: str | None, message: str, headers: str = "") -> None:
        error = {"message": message, "type": "an_error", "param": None, "code": code}
        await self.respond(status, {"error": error}, headers)

    async def begin_stream(self) -> None:
        await self.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")

    async def event(self, data: bytes) -> None:
        await self._send_chunk(b"data: " + data + b"\n\n")

    async def _send_chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def chunk(self, delta: Mapping[str, Any], finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        await self.event(json.dumps(self._body("chat.completion.chunk", choices=[choice])).encode())

    async def words(self, first: int, last: int) -> None:
        """Send the events from one word to another; those before the first word too if `first` is 0."""
        if self.wire in BEFORE_WORDS:
            before = BEFORE_WORDS[self.wire]
            for event in events_of(self.wire, GENERATED)[before + first if first else 0 : before + last]:
                await self._send_chunk(event)
            return
        if first == 0:
            await self.chunk({"role": "assistant", "content": ""})
        for number in range(first, last):
            await self.chunk({"content": f" {WORDS[number]}" if number else WORDS[number]})

    async def text(self, text: str) -> None:
        """Send one event with this text."""
        if self.wire in BEFORE_WORDS:
            event = events_of(self.wire, Generated((Segment("text", (text,)),), (0,)))[BEFORE_WORDS[self.wire]]
            await self._send_chunk(event)
        else:
            await self.chunk({"content": text})

    async def finish(self, *, done: bool = True) -> None:
        """Send what follows the last word."""
        if self.wire in BEFORE_WORDS:
            for event in events_of(self.wire, GENERATED)[BEFORE_WORDS[self.wire] + len(WORDS) :]:
                await self._send_chunk(event)
            await self.send(b"0\r\n\r\n")
            return
        await self.chunk({}, "stop")
        await self.event(json.dumps(self._body("chat.completion.chunk", choices=[], usage=USAGE)).encode())
        if done:
            await self.event(b"[DONE]")
        await self.send(b"0\r\n\r\n")

    async def good(self) -> None:
        if self.stream:
            await self.begin_stream()
            await self.words(0, len(WORDS))
            await self.finish()
        elif self.wire in BEFORE_WORDS:
            await self.respond(200, whole_of(self.wire, GENERATED))
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
            await self.respond(200, self._body("chat.completion", choices=[choice], usage=USAGE))

    async def silence(self) -> None:
        """Send nothing until the gateway closes the connection."""
        await self.attempt.client_gone.wait()
        raise ConnectionResetError

    def cut(self, *, reset: bool = False) -> None:
        if reset:
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.close()
        raise ConnectionResetError

    def _body(self, kind: str, **fields: Any) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": self.attempt.model, **fields}


Fault = Callable[[Call], Awaitable[None]]


class FaultyProvider:
    """`async with FaultyProvider(faults) as provider:`. `faults` maps the names of models to faults; other models
    work."""

    def __init__(self, faults: Mapping[str, Fault], tls: ssl.SSLContext | None = None) -> None:
        self._faults = faults
        self._tls = tls
        self._server: asyncio.Server | None = None
        self.attempts: list[Attempt] = []
        self.down = False
        """For the scenario of a provider that recovers."""

    @property
    def base_url(self) -> str:
        """The base URL for OpenAI's clients, including `/v1`."""
        assert self._server is not None
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    def url_of(self, wire: str) -> str:
        """Return the base URL for a wire format."""
        return self.base_url.removesuffix("/v1") if wire == "anthropic" else self.base_url

    def reset(self) -> None:
        self.attempts.clear()
        self.down = False

    def of(self, model: str) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.model == model]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    @property
    def port(self) -> int:
        return int(self.base_url.rpartition(":")[2].partition("/")[0])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                await self._respond(head, json.loads(await reader.readexactly(length)), reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _respond(
        self, head: bytes, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        attempt = Attempt(body["model"], time.monotonic(), body.get("messages") or body["input"], head)
        self.attempts.append(attempt)
        wire = PATHS[head.split(b" ", 2)[1]]
        call = Call(attempt, len(self.of(attempt.model)), bool(body.get("stream")), writer, wire)
        watching = asyncio.create_task(_watch(reader, attempt))
        try:
            await self._faults.get(attempt.model, Call.good)(call)
        except OSError:
            attempt.client_gone.set()
            raise
        finally:
            watching.cancel()


async def _watch(reader: asyncio.StreamReader, attempt: Attempt) -> None:
    """Detect that the gateway closed the connection: it sends nothing while it waits."""
    with contextlib.suppress(OSError):
        if await reader.read(1):
            return
    attempt.client_gone.set()
