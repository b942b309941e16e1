"""A scripted provider in place of the connection pool: it responds with given parts of bytes and keeps each request."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from platform_app.llm.http.transport.errors import ConnectionLost


@dataclass(frozen=True)
class Script:
    """One response: its parts arrive one at a time, in this order."""

    parts: Sequence[bytes]
    content_type: bytes = b"application/json"
    status: int = 200
    lost: bool = False
    """Whether the connection is lost after the last part, instead of the body's end."""
    hangs: bool = False
    """Whether nothing comes after the last part."""


def json_script(body: object, status: int = 200) -> Script:
    """Return the script of a whole response."""
    return Script([json.dumps(body).encode()], status=status)


def stream_script(*parts: bytes, lost: bool = False) -> Script:
    """Return the script of a stream."""
    return Script(parts, b"text/event-stream", lost=lost)


@dataclass
class Received:
    """A request that the provider got."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class ScriptedPool:
    """Responds to every request with `script`; see ConnectionPool."""

    script: Script = field(default_factory=lambda: Script([b"{}"]))
    received: list[Received] = field(default_factory=list)
    streams: list["ScriptedStream"] = field(default_factory=list)

    async def send(self, address: object, head: bytes, body: bytes, connect_until: float) -> "ScriptedStream":
        """Keep the request and return the response."""
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        self.received.append(Received(first.split(" ")[1], headers, json.loads(body or b"{}")))
        self.streams.append(ScriptedStream(self.script))
        return self.streams[-1]

    async def aclose(self) -> None:
        """Do nothing."""


class ScriptedStream:
    """See ResponseStream."""

    def __init__(self, script: Script) -> None:
        self.status = script.status
        self.headers = {b"content-type": script.content_type}
        self._parts = list(script.parts)
        self._script = script
        self.complete = False
        self.idle = asyncio.Event()
        """Set once the gateway waits for a part that does not come."""
        self.closed = False
        """Whether the gateway closed the connection before the end of the response."""

    async def head(self, until: float) -> None:
        """The head has arrived."""
        await asyncio.sleep(0)

    async def read(self, until: float) -> bytes:
        """Return the next part."""
        if self._parts:
            return self._parts.pop(0)
        if self._script.hangs:
            self.idle.set()
            await asyncio.Event().wait()
        if self._script.lost:
            raise ConnectionLost
        self.complete = True
        return b""

    def close(self) -> None:
        """Drop the rest."""
        self.closed = self.closed or not self.complete
        self._parts.clear()
