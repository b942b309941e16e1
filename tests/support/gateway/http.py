"""What HTTP tests read: server-sent events, metrics, and a gateway's workers; and a connection without a client."""

import asyncio
import json
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from apps.platform_cli.embedded import processes
from tests.support.gateway.process import Gateway


@dataclass(frozen=True)
class Event:
    """One server-sent event; `data` is its JSON."""

    name: str
    data: dict[str, Any]


def parse_events(text: str) -> list[Event]:
    """Every event of a whole stream, strictly: `event:`, `data:`, an empty line; comment lines are left out."""
    *blocks, rest = text.split("\n\n")
    assert re.sub(r"(?m)^:.*\n", "", rest) == "", f"the stream ends in the middle of an event: {rest!r}"
    events = []
    for block in blocks:
        while block.startswith(":"):
            block = block.partition("\n")[2]
        if not block:
            continue
        match = re.fullmatch(r"event: (\w+)\ndata: (.*)", block)
        assert match is not None, f"not an event: {block!r}"
        events.append(Event(match[1], json.loads(match[2])))
    return events


async def events_of(pieces: AsyncIterable[str]) -> AsyncIterator[Event]:
    """Events as they arrive."""
    text = ""
    async for piece in pieces:
        text += piece
        while "\n\n" in text:
            block, text = text.split("\n\n", 1)
            for event in parse_events(block + "\n\n"):
                yield event


def metric(text: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that carry these labels; 0 where there are none."""
    total = 0.0
    for line in text.splitlines():
        if not line.startswith(name):  # quicker than the expression, for thousands of lines in each poll
            continue
        match = re.fullmatch(r"([a-z_]+)(?:\{(.*)\})? (\S+)", line)
        if match is not None and match[1] == name:
            found = dict(re.findall(r'(\w+)="([^"]*)"', match[2] or ""))
            if labels.items() <= found.items():
                total += float(match[3])
    return total


PATIENT_SECONDS = 300.0
"""How long a test waits for what has to come. No claim about time: nothing that is well takes as long anywhere."""


async def until(condition: Callable[[], bool], seconds: float = PATIENT_SECONDS) -> None:
    """Wait until something that cannot be awaited is true; check it less often with time, since a check costs CPU."""
    pause = 0.01
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(pause)
            pause = min(1.2 * pause, 0.03)


async def metric_becomes(gateway: Gateway, expected: float, name: str, **labels: str) -> None:
    """Wait until a metric has this value; workers count a moment after their response."""
    await until(lambda: metric(gateway.metrics(), name, **labels) == expected)


async def access_line(gateway: Gateway, request_id: str) -> dict[str, Any]:
    """The access line of a request, waited for without holding up the loop."""
    return await log_line(gateway, "request", request_id=request_id)


async def log_line(gateway: Gateway, event: str, **fields: Any) -> dict[str, Any]:
    """A line of the log, waited for without holding up the loop."""
    return await asyncio.to_thread(gateway.log_line, event, PATIENT_SECONDS, **fields)


def workers(gateway: Gateway) -> list[int]:
    """The ids of a gateway's worker processes."""
    assert gateway.child is not None
    return processes.descendants(gateway.child.pid)


def live_workers(gateway: Gateway) -> list[int]:
    """The ids of a gateway's workers without those that have ended and were not reaped, and without other children."""
    return [pid for pid in workers(gateway) if "apps.platform_api" in processes.command_line(pid)]


@dataclass(frozen=True)
class Connection:
    """A bare TCP connection to a gateway."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower-case names) and body of the next response, which has a Content-Length."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(status.split()[1]), headers, body


@asynccontextmanager
async def connect(gateway: Gateway) -> AsyncIterator[Connection]:
    """A connection to the gateway's public port, gone at the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        async with asyncio.timeout(PATIENT_SECONDS):
            yield Connection(reader, writer)
    finally:
        writer.transport.abort()


PLATFORM_CHAT, OPENAI_CHAT = "/v1/platform/chat", "/v1/chat/completions"


def chat_request(key: str, body: Mapping[str, Any], request_id: str, path: str = PLATFORM_CHAT) -> bytes:
    """A whole chat request as bytes."""
    content = json.dumps(body).encode()
    return chat_head(key, request_id, f"Content-Length: {len(content)}", path=path) + content


def chat_head(key: str, request_id: str, *headers: str, path: str = PLATFORM_CHAT) -> bytes:
    """A chat request's line and headers, with the empty line."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: gateway",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        f"X-Request-ID: {request_id}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()
