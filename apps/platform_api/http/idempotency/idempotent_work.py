"""One request's work under an Idempotency-Key. It has a task of its own, so it goes on when its client has left, and
a client that asks again with the key gets its response (docs/adr/0030)."""

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
"""Between the task and a client that is slower than the provider; then the provider is slowed down."""
_ENDINGS = (b"event: done\n", b"data: [DONE]\n")
"""How the last event of a complete stream begins."""

_log = get_logger("idempotency")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the work came to."""

    response: Response
    head: StoredResponse
    """The response as it is to be kept; of a stream all but its body."""
    keep: bool = True
    """Of a response that is no stream: whether it is kept, or the key is free again."""


class KeyedWork:
    """Made for each request that begins to work under a key."""

    def __init__(
        self,
        attempt: InFlightRequest,
        detached: DetachedWork,
        work: Callable[[], Awaitable[Outcome]],
        keep_body: Callable[[], Callable[[], None]],
    ) -> None:
        """`keep_body`: see DetachedWork.go_on."""
        self._attempt = attempt
        self._detached = detached
        self._work = work
        self._keep_body = keep_body
        self._ready: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._ready.add_done_callback(lambda ready: ready.cancelled() or ready.exception())  # a client may be gone
        self._chunks: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue(_QUEUED_CHUNKS)
        self._left = False
        self._recording: _Recording | None = None
        self._task = detached.start(self._run())

    async def response(self, client: DisconnectSignal) -> Response:
        """The response to send: whole and kept, or a stream whose chunks come from the task.

        Raises:
            ClientDisconnected: the client left; the work goes on, if it may.
        """
        try:
            return await cancel_on_disconnect(client, asyncio.shield(self._ready))
        except ClientDisconnected:
            self.leave()
            raise
        except asyncio.CancelledError:
            self._task.cancel()
            raise

    def leave(self) -> None:
        """The client is gone. Without the key's protection, with a response that is too large to be kept, or with too
        much such work under way, the work is cancelled, and with it the provider's call."""
        if self._left or self._task.done():
            return
        self._left = True
        while not self._chunks.empty():  # the task may wait for room
            self._chunks.get_nowait()
        too_large = self._recording is not None and self._recording.overflowed
        if too_large or not self._attempt.protected or not self._detached.go_on(self._task, self._keep_body):
            metrics.IDEMPOTENCY.labels("abandoned").inc()
            self._task.cancel()
            return
        metrics.IDEMPOTENCY.labels("client_left").inc()
        self._attempt.client_disconnected()

    async def _run(self) -> None:
        try:
            outcome = await self._work()
            if isinstance(outcome.response, ByteStream):
                await self._pass_on(outcome.response, outcome.head)
            else:
                await (self._attempt.finish(outcome.head) if outcome.keep else self._attempt.release())
                self._tell(outcome.response)
        except BaseException as error:
            await self._attempt.release()
            if self._left and isinstance(error, Exception):
                _log.exception("idempotency_work_failed")
            self._fail(error)
            if not isinstance(error, Exception):
                raise

    async def _pass_on(self, stream: ByteStream, head: StoredResponse) -> None:
        """Every chunk to the client while it is there, and into the record. The last chunk of a complete stream is sent
        only after the response is kept; a stream that ends without it frees the key."""
        source = stream.chunks
        recording = self._recording = _Recording(self._attempt, head)
        try:
            await recording.take(stream.first)
            stream.chunks = _Chunks(self._chunks, self.leave)
            self._tell(stream)
            async for chunk in source:
                await recording.take(chunk)
                if not self._left:
                    await self._chunks.put(chunk)
                elif recording.overflowed:
                    break  # it is too large to be kept, so no client can get it
        finally:
            await source.aclose()  # first: the provider is told at once
        await self._attempt.release()
        if not self._left:
            await self._chunks.put(None)

    def _tell(self, response: Response) -> None:
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
    """The chunks of a stream, collected up to one byte more than is kept."""

    def __init__(self, attempt: InFlightRequest, head: StoredResponse) -> None:
        self._attempt = attempt
        self._head = head
        self._body = bytearray()
        self.overflowed = False
        """It is too large to be kept; the rest is not collected."""

    async def take(self, chunk: bytes) -> None:
        """Look at a chunk that is about to be sent; keep the response where it is the last."""
        if not self.overflowed:
            self._body += chunk
            if len(self._body) > self._attempt.max_bytes:
                self.overflowed = True  # one byte too many is enough to say so
                del self._body[self._attempt.max_bytes + 1 :]
        if chunk.startswith(_ENDINGS):
            await self._attempt.finish(replace(self._head, body=bytes(self._body)))


class _Chunks:
    """The chunks as the client gets them; see streaming.ByteChunks."""

    def __init__(self, queue: "asyncio.Queue[bytes | BaseException | None]", leave: Callable[[], None]) -> None:
        self._queue = queue
        self._leave: Callable[[], None] | None = leave
        """None after the end: the work refers to the response, which refers to this."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._leave is None:
            raise StopAsyncIteration
        chunk = await self._queue.get()
        if isinstance(chunk, bytes):
            return chunk
        self._leave = None
        if chunk is None:
            raise StopAsyncIteration
        raise chunk

    async def aclose(self) -> None:
        """The client takes no more of it."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()
