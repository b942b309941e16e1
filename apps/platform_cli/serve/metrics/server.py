"""The metrics port: a small HTTP server in its own thread, with a bound on every resource that a client can occupy.

A connection above the bound closes the oldest one, so that idle connections never prevent a scrape.
"""

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from platform_app.observability.logging import get_logger
from platform_app.observability.logs.exceptions import exception_fields

MAX_CONNECTIONS = 64
MAX_HEAD_BYTES = 8192
REQUEST_SECONDS = 5.0
"""For the whole head of a request."""
RESPONSE_SECONDS = 10.0
"""For the client to take the whole response."""
_END = b"\r\n\r\n"
_HEAD = re.compile(rb"(?:[\t\x20-\x7e\x80-\xff]++\r\n)++\r\n")
"""Lines that end in CRLF, without other control characters."""
_FORMS = {
    openmetrics: choose_encoder("application/openmetrics-text; version=1.0.0" if openmetrics else "")
    for openmetrics in (False, True)
}
"""The encoder and the content type of the text format and of OpenMetrics."""

_log = get_logger("serve")


@dataclass(frozen=True, slots=True)
class _Response:
    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    allow: bool = False

    def encode(self, *, head_only: bool) -> bytes:
        lines = [
            f"HTTP/1.1 {self.status.value} {self.status.phrase}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            *(["Allow: GET, HEAD"] if self.allow else []),
            "Connection: close",
        ]
        return "\r\n".join(lines).encode("latin-1") + _END + (b"" if head_only else self.body)


class MetricsCache:
    """A registry's text in each requested format, cached for some seconds, because aggregating the workers' files costs
    more than the rest of a scrape."""

    def __init__(
        self, registry: CollectorRegistry, seconds: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._registry = registry
        self._seconds = seconds
        self._clock = clock
        self._texts: dict[bool, tuple[float, bytes]] = {}

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return the text in the format that an Accept header prefers, and its content type: OpenMetrics 1.0.0 where
        it names that first, else Prometheus' text format. No other part of the header has an effect."""
        openmetrics = prefers_openmetrics(accept)
        encode, content_type = _FORMS[openmetrics]
        made_at, text = self._texts.get(openmetrics, (float("-inf"), b""))
        if self._clock() - made_at >= self._seconds:
            text = encode(self._registry)
            self._texts[openmetrics] = (self._clock(), text)
        return text, content_type


def prefers_openmetrics(accept: str) -> bool:
    """Return whether an Accept header names OpenMetrics, in the version that this server has, before plain text."""
    for media_range in accept.split(","):
        name, *parameters = (part.strip() for part in media_range.split(";"))
        versions = {each for each in parameters if each.startswith("version=")}
        if name == "application/openmetrics-text" and versions <= {"version=1.0.0"}:
            return True
        if name == "text/plain":
            return False
    return False


class MetricsServer:
    """Serve GET and HEAD of `/metrics` on a listening socket, from `__enter__` to `__exit__`."""

    def __init__(self, listening: socket.socket, cache: MetricsCache) -> None:
        self._listening = listening
        self._cache = cache
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def connections(self) -> int:
        """Return the number of open connections."""
        return len(self._open)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=5)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._on_connection, sock=self._listening, limit=MAX_HEAD_BYTES)
        await self._stop.wait()
        server.close()
        for task, writer in list(self._open.items()):
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - start_server runs this as a task
        while len(self._open) >= MAX_CONNECTIONS:
            oldest = next(iter(self._open))
            self._open.pop(oldest).transport.abort()
            oldest.cancel()
        self._open[task] = writer
        try:
            await self._serve_request(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client disconnected, was too slow, or was closed for another
        finally:
            self._open.pop(task, None)
            writer.transport.abort()

    async def _serve_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                head = await reader.readuntil(_END)
        except asyncio.LimitOverrunError:
            head = b""
            response = _Response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, b"The request head is too large.\n")
        else:
            response = self._response_to(head)
        # With this, drain() returns only after the kernel has taken everything.
        writer.transport.set_write_buffer_limits(0)
        async with asyncio.timeout(RESPONSE_SECONDS):
            writer.write(response.encode(head_only=head.startswith(b"HEAD ")))
            await writer.drain()
            writer.write_eof()
            # Unread data from the client would make the kernel reset the connection before the response arrives.
            with contextlib.suppress(OSError):
                await reader.read(MAX_HEAD_BYTES)

    def _response_to(self, head: bytes) -> _Response:
        try:
            return self._respond(head)
        except Exception as error:  # noqa: BLE001 - a scrape gets a response whatever fails
            _log.error("metrics_not_served", **exception_fields(error))
            return _Response(
                HTTPStatus.INTERNAL_SERVER_ERROR, b"The metrics cannot be served. See the gateway's log.\n"
            )

    def _respond(self, head: bytes) -> _Response:
        if _HEAD.fullmatch(head) is None:
            return _Response(HTTPStatus.BAD_REQUEST, b"Not an HTTP/1 request.\n")
        request, *fields = head.decode("latin-1").split("\r\n")
        words = request.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _Response(HTTPStatus.BAD_REQUEST, b"Not an HTTP/1 request.\n")
        method, target, _ = words
        if target.partition("?")[0] != "/metrics":
            return _Response(HTTPStatus.NOT_FOUND, b"Not found. Use /metrics.\n")
        if method not in ("GET", "HEAD"):
            return _Response(HTTPStatus.METHOD_NOT_ALLOWED, b"Only GET and HEAD are allowed.\n", allow=True)
        pairs = (field.partition(":") for field in fields)
        accept = ",".join(value.strip() for name, _, value in pairs if name.strip().lower() == "accept")
        try:
            text, content_type = self._cache.text(accept)
        except OSError as error:
            reason = f"The files in which the workers count cannot be read: {error}. Restart the gateway.\n"
            return _Response(HTTPStatus.SERVICE_UNAVAILABLE, reason.encode())
        return _Response(HTTPStatus.OK, text, content_type)
