"""One write for the head of an answer and the body behind it.

uvicorn hands them over apart, and uvloop sends what it gets at once, so that every answer would be two system calls and
wake its reader twice.
"""

import asyncio
from typing import Any

_AT_ONCE_BYTES = 64 * 1024
"""So much waits for the end of the event loop's turn at most."""


class JoiningTransport(asyncio.Transport):
    """Writes at the end of the loop's turn what was written in it; everything else is the transport's behind it."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes | bytearray | memoryview] = []
        self._size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See asyncio.WriteTransport."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size > _AT_ONCE_BYTES:
            self._flush()

    def close(self) -> None:
        """See asyncio.BaseTransport. What was written before is sent."""
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """See asyncio.BaseTransport."""
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        """See asyncio.ReadTransport."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """See asyncio.ReadTransport."""
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See asyncio.BaseTransport."""
        return self._transport.get_extra_info(name, default)

    def _flush(self) -> None:
        parts, self._parts, self._size = self._parts, [], 0
        if parts and not self._transport.is_closing():  # nobody is there any more
            self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))
