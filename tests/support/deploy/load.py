"""Streaming clients and single requests at a fixed rate, while a test does something else."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

PATH = "/v1/platform/chat"
PROMPT = "one two three four five six seven eight nine ten"


@dataclass
class Load:
    """What the clients saw. Each request has a new connection, so that no request meets a connection that ends."""

    port: int
    key: str
    stream_model: str
    model: str
    streams: int
    rate: float
    failures: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    streaming: set[int] = field(default_factory=set)
    """Clients that have received the first event of their stream at least once."""
    all_streaming: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def streaming_client(self, number: int) -> None:
        """Stream again and again; every stream must end with `done`."""
        while not self.stopping.is_set():
            try:
                head, body = await self._send({"model": self.stream_model, "prompt": PROMPT, "stream": True}, number)
            except OSError as error:
                self.failures.append(f"stream: {type(error).__name__}: {error}")
                continue
            events = [line for line in body.splitlines() if line.startswith(b"event: ")]
            if b" 200 " not in head or not events or events[-1] != b"event: done" or not body.endswith(b"0\r\n\r\n"):
                self.failures.append(f"stream: {head.splitlines()[:1]!r}, {len(events)} events, {body[-200:]!r}")
            else:
                self.done["streams"] += 1

    async def single_requests(self) -> None:
        """Start requests at the rate; a machine that is too slow for it starts them later, and skips none."""
        loop, started, number = asyncio.get_running_loop(), asyncio.get_running_loop().time(), 0
        async with asyncio.TaskGroup() as group:
            while not self.stopping.is_set():
                group.create_task(self._single_request())
                number += 1
                await asyncio.sleep(max(0.0, started + number / self.rate - loop.time()))

    async def _single_request(self) -> None:
        try:
            head, body = await self._send({"model": self.model, "prompt": PROMPT})
        except OSError as error:
            self.failures.append(f"request: {type(error).__name__}: {error}")
            return
        if b" 200 " not in head or b'"status":"ok"' not in body:
            self.failures.append(f"request: {head.splitlines()[:1]!r} {body[:200]!r}")
        else:
            self.done["requests"] += 1

    async def _send(self, body: dict[str, object], client: int | None = None) -> tuple[bytes, bytes]:
        """Send one request and read its response to the end of the connection."""
        content = json.dumps(body).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(
                f"POST {PATH} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {self.key}\r\nConnection: close\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
                + content
            )
            found = b""
            while chunk := await reader.read(65_536):
                found += chunk
                if client is not None and client not in self.streaming and b"event: delta" in found:
                    self.streaming.add(client)
                    if len(self.streaming) == self.streams:
                        self.all_streaming.set()
            head, _, rest = found.partition(b"\r\n\r\n")
            return head, rest
        finally:
            writer.close()


@asynccontextmanager
async def load_on(
    port: int, key: str, *, stream_model: str, model: str, streams: int, rate: float
) -> AsyncIterator[Load]:
    """Send load until the block ends, then wait for the last responses."""
    load = Load(port, key, stream_model, model, streams, rate)
    async with asyncio.TaskGroup() as group:
        for number in range(streams):
            group.create_task(load.streaming_client(number))
        group.create_task(load.single_requests())
        try:
            await load.all_streaming.wait()
            yield load
        finally:
            load.stopping.set()
