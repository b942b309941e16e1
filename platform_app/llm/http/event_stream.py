"""Chunks of a streamed answer, from a provider's server-sent events as they arrive.

A class and no async generator: one that is cancelled or fails before its first chunk, or is closed while somebody waits
for the next, must give its connection back too, and a generator that nobody closes does so when it is collected.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from platform_app.llm import errors
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.http.response import ProviderResponse
from platform_app.llm.http.sse import BOM, EventTooLarge, SseParser
from platform_app.llm.responses import ChatChunk, ModelResponse
from platform_app.llm.stream_conversion import assemble_response, split_into_chunks

MAX_HELD_CHUNKS = 256
MAX_HELD_BYTES = 64 * 1024
"""Of chunks without content that are held back (docs/adr/0026). A stream that goes on so is passed on as it is."""
_FIELDS = (b"data", b"event", b"id", b"retry", b":", b"error")
_ENOUGH = 6
"""Bytes that show whether a body is JSON or events."""


class EventDecoder(Protocol):
    """Understands one wire format's events. One for each stream."""

    complete: bool
    """The provider said that nothing follows."""

    def decode(self, data: bytes) -> ChatChunk | None:
        """The chunk in an event, None where it has none. Raises ProviderFailed or RequestRefused where it tells of a
        failure or is not understood."""
        ...

    def finish(self) -> None:
        """The body ended before the answer was `complete`. Raises ProviderBadResponse unless it may end so."""
        ...


ReadCompletion = Callable[[bytes], ModelResponse]
"""Understands one wire format's whole response. Raises ProviderFailed or RequestRefused."""


async def open_stream(response: ProviderResponse, decoder: EventDecoder, read_response: ReadCompletion) -> ChunkStream:
    """The stream of a response, once its first content is there. Raises what the provider failed with until then; the
    response is closed then.

    Chunks before it that carry no content are held back, so that whatever fails until then can still be tried again or
    elsewhere. A whole response where a stream was asked for is read as one.
    """
    chunks = EventChunks(response, decoder, read_response)
    held: list[ChatChunk] = []
    size = 0
    try:
        while len(held) < MAX_HELD_CHUNKS and size < MAX_HELD_BYTES:
            chunk = await anext(chunks)
            held.append(chunk)
            if chunk.carries_content:
                break
            size += len(chunk.raw)
    except StopAsyncIteration:
        if not held:
            raise errors.bad_response("the stream ended without an answer") from None
    return ChunkStream(held[0], chunks, held[1:])


async def read_whole(
    response: ProviderResponse, read_response: ReadCompletion, make_decoder: Callable[[], EventDecoder]
) -> ModelResponse:
    """The response to a call that asked for no stream, closing it; a stream all the same is put together. Raises what
    the provider failed with."""
    raw = await response.read_body()
    start = _start(raw[: _ENOUGH + 64])
    if _is_json(start):
        return read_response(raw)
    if response.is_event_stream or _is_events(start):
        completion = assemble_response(_chunks_in(raw, make_decoder()))
        if not completion.body["choices"]:
            raise errors.bad_response("the stream ended without an answer")
        return completion
    raise response.unexpected("JSON", raw)


class EventChunks:
    """Reads no further than it is asked to: what a slow consumer leaves stays in the sockets' buffers.

    The connection is closed, or given back to the pool, with the last chunk, the first failure, a cancellation or
    `aclose`, whichever comes first.
    """

    def __init__(self, response: ProviderResponse, decoder: EventDecoder, read_response: ReadCompletion) -> None:
        self._response = response
        self._decoder = decoder
        self._read_response = read_response
        self._parser = SseParser()
        self._events: deque[bytes] = deque()
        self._whole: deque[ChatChunk] | None = None
        self._over = False
        self._started = False
        self._at_end = False

    def __aiter__(self) -> "EventChunks":
        return self

    async def __anext__(self) -> ChatChunk:
        if self._over:
            raise StopAsyncIteration
        try:
            chunk = await self._next()
        except BaseException:
            self._close()
            raise
        if chunk is None:
            self._close()
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Close the connection unless the answer is complete. At once: it waits for nothing."""
        self._close()

    async def _next(self) -> ChatChunk | None:
        if not self._started:
            self._started = True
            await self._begin()
        if self._whole is not None:
            return self._whole.popleft() if self._whole else None
        decoder = self._decoder
        while not decoder.complete:
            if self._events:
                chunk = decoder.decode(self._events.popleft())
                if chunk is not None:
                    return chunk
                continue
            if self._at_end:
                decoder.finish()
                return None
            piece = await self._response.next_bytes()
            if piece:
                self._take(piece)
            else:  # some servers leave the last event's empty line out
                self._at_end = True
                self._take(b"\n\n")
        await self._response.drain()
        return None

    async def _begin(self) -> None:
        """Read the first bytes, and by them what the response is; its type alone says too little."""
        response = self._response
        response.require_uncompressed()
        first = piece = await response.next_bytes()
        while piece and len(_start(first)) < _ENOUGH and len(first) < MAX_HELD_BYTES:
            piece = await response.next_bytes()
            first += piece
        start = _start(first)
        if _is_json(start):
            self._whole = deque(split_into_chunks(self._read_response(await response.read_body(first))))
        elif response.is_event_stream or _is_events(start):
            self._take(first)
        else:
            raise response.unexpected("an event stream", first)

    def _take(self, piece: bytes) -> None:
        try:
            self._events.extend(self._parser.feed(piece))
        except EventTooLarge:
            raise errors.too_large("one event of the stream is too large") from None

    def _close(self) -> None:
        self._over = True
        self._events.clear()
        self._response.close()


def _chunks_in(raw: bytes, decoder: EventDecoder) -> Iterable[ChatChunk]:
    """The chunks of a whole stream. Raises what the stream tells of."""
    parser = SseParser()
    try:
        events = parser.feed(raw) + parser.feed(b"\n\n")
    except EventTooLarge:
        raise errors.too_large("one event of the stream is too large") from None
    for event in events:
        if decoder.complete:
            return
        chunk = decoder.decode(event)
        if chunk is not None:
            yield chunk
    if not decoder.complete:
        decoder.finish()


def _start(raw: bytes) -> bytes:
    return raw.lstrip().removeprefix(BOM).lstrip()


def _is_json(start: bytes) -> bool:
    return start.startswith((b"{", b"["))


def _is_events(start: bytes) -> bool:
    """Whether a body of no, or of another, type is a stream of events; a body that is empty is one without any."""
    return any(start.startswith(field) for field in _FIELDS)
