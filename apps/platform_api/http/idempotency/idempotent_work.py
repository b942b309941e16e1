"""One request's work under an Idempotency-Key.

The work runs in a separate task, so it continues after its client has disconnected. A client that repeats the request
with the key gets its response (docs/adr/0030).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

from starlette.responses import Response

from apps.platform_api.http.disconnect import ClientDisconnected, DisconnectSignal, cancel_on_disconnect
from apps.platform_api.http.idempotency.detached_work import DetachedWork
from apps.platform_api.http.streaming import ByteStream
from platform_app.idempotency.in_flight import InFlightRequest
from platform_app.idempotency.stored_response import StoredResponse
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger

_QUEUED_CHUNKS = 16
"""Chunks that are queued for a client that is slower than the provider. A full queue slows the provider down."""
_ENDINGS = (
    b"event: done\n", b"data: [DONE]\n", b"event: response.completed\n", b"event: response.incomplete\n",
    b"event: message_stop\n",
)  # fmt: skip
"""The first bytes of the last event of a complete stream, in each contract."""
_ENDINGS_INSIDE = tuple(b"\n\n" + ending for ending in _ENDINGS)
"""The same behind other events of one chunk. The data of an event is one line, so content cannot contain them."""

_log = get_logger("idempotency")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of the work."""

    response: Response
    head: StoredResponse
    """The response to store; for a stream without its body."""
    keep: bool = True
    """Whether a response that is not a stream is stored. If not, the key can be used again."""


class KeyedWork:
    """Runs the work of one request under its key, and hands the response to the client."""

    def __init__(
        self,
        attempt: InFlightRequest,
        detached: DetachedWork,
        work: Callable[[], Awaitable[Outcome]],
        keep_body: Callable[[], Callable[[], None]],
    ) -> None:
        """`keep_body`: see DetachedWork.detach."""
        self._attempt = attempt
        self._detached = detached
        self._work = work
        self._keep_body = keep_body
        self._ready: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._ready.add_done_callback(
            lambda ready: ready.cancelled() or ready.exception()
        )  # the client may have disconnected
        self._chunks: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue(_QUEUED_CHUNKS)
        self._disconnected = False
        self._recording: _Recording | None = None
        self._task = detached.start(self._run())

    async def response(self, client: DisconnectSignal) -> Response:
        """Return the response to send: complete and stored, or a stream whose chunks the task queues.

        Raises:
            ClientDisconnected: the client disconnected. The work continues if it may.
        """
        try:
            return await cancel_on_disconnect(client, asyncio.shield(self._ready))
        except ClientDisconnected:
            self.on_disconnect()
            raise
        except asyncio.CancelledError:
            self._task.cancel()
            raise

    def on_disconnect(self) -> None:
        """Handle the client's disconnect.

        The work is cancelled, and with it the provider's call, if the key is not protected, the response is too large
        to store, or too many such tasks continue already.
        """
        if self._disconnected or self._task.done():
            return
        self._disconnected = True
        while not self._chunks.empty():  # the task may be waiting for a free place
            self._chunks.get_nowait()
        too_large = self._recording is not None and self._recording.overflowed
        if too_large or not self._attempt.protected or not self._detached.detach(self._task, self._keep_body):
            metrics.IDEMPOTENCY.labels("abandoned").inc()
            self._task.cancel()
            return
        metrics.IDEMPOTENCY.labels("client_left").inc()
        self._attempt.client_disconnected()

    async def _run(self) -> None:
        try:
            outcome = await self._work()
            if isinstance(outcome.response, ByteStream):
                await self._send_stream(outcome.response, outcome.head)
            else:
                await (self._attempt.finish(outcome.head) if outcome.keep else self._attempt.release())
                self._resolve(outcome.response)
        except BaseException as error:
            await self._attempt.release()
            if self._disconnected and isinstance(error, Exception):
                _log.exception("idempotency_work_failed")
            self._fail(error)
            if not isinstance(error, Exception):
                raise

    async def _send_stream(self, stream: ByteStream, head: StoredResponse) -> None:
        """Queue every chunk for the client until it disconnects, and record every chunk.

        The last chunk of a complete stream is sent only after the response is stored. A stream that ends without it
        frees the key.
        """
        source = stream.chunks
        recording = self._recording = _Recording(self._attempt, head)
        try:
            await recording.take(stream.first)
            stream.chunks = _Chunks(self._chunks, self.on_disconnect)
            self._resolve(stream)
            async for chunk in source:
                await recording.take(chunk)
                if not self._disconnected:
                    await self._chunks.put(chunk)
                elif recording.overflowed:
                    break  # too large to store, so no client can get it
        finally:
            await source.aclose()  # first, so that the provider's call ends at once
        await self._attempt.release()
        if not self._disconnected:
            await self._chunks.put(None)

    def _resolve(self, response: Response) -> None:
        if not self._ready.done():
            self._ready.set_result(response)

    def _fail(self, error: BaseException) -> None:
        if not self._ready.done():
            if isinstance(error, asyncio.CancelledError):
                self._ready.cancel()
            else:
                self._ready.set_exception(error)
            return
        while not self._chunks.empty():
            self._chunks.get_nowait()
        self._chunks.put_nowait(error)


class _Recording:
    """Collects the chunks of a stream, up to one byte more than may be stored."""

    def __init__(self, attempt: InFlightRequest, head: StoredResponse) -> None:
        self._attempt = attempt
        self._head = head
        self._body = bytearray()
        self.overflowed = False
        """The stream is too large to store; its further chunks are not collected."""

    async def take(self, chunk: bytes) -> None:
        """Collect a chunk that is about to be sent. Store the response if the chunk is the last one."""
        if not self.overflowed:
            self._body += chunk
            if len(self._body) > self._attempt.max_bytes:
                self.overflowed = True
                del self._body[self._attempt.max_bytes + 1 :]
        if chunk.startswith(_ENDINGS) or any(ending in chunk for ending in _ENDINGS_INSIDE):
            await self._attempt.finish(replace(self._head, body=bytes(self._body)))


class _Chunks:
    """The chunks that the client receives; see streaming.ByteChunks."""

    def __init__(self, queue: "asyncio.Queue[bytes | BaseException | None]", on_disconnect: Callable[[], None]) -> None:
        self._queue = queue
        self._on_disconnect: Callable[[], None] | None = on_disconnect
        """None after the end: the work refers to the response, which refers to this."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._on_disconnect is None:
            raise StopAsyncIteration
        chunk = await self._queue.get()
        if isinstance(chunk, bytes):
            return chunk
        self._on_disconnect = None
        if chunk is None:
            raise StopAsyncIteration
        raise chunk

    async def aclose(self) -> None:
        """End the stream because the client disconnected."""
        on_disconnect, self._on_disconnect = self._on_disconnect, None
        if on_disconnect is not None:
            on_disconnect()
