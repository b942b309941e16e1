"""Chunks of a streamed answer, from a provider's server-sent events as they arrive.

A class and no async generator: one that is cancelled or fails before its first chunk, or is closed while somebody waits
for the next, must give its connection back too, and a generator that nobody closes does so when it is collected.
"""

from collections import deque
from typing import Protocol

from platform_app.llm import provider_errors as errors
from platform_app.llm.answers import ChatChunk
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.provider_response import ProviderResponse
from platform_app.llm.sse import EventTooLarge, SseParser


class EventReader(Protocol):
    """Understands one wire format's events. One for each stream."""

    complete: bool
    """The provider said that nothing follows."""

    def read(self, data: bytes) -> ChatChunk | None:
        """The chunk in an event, None where it has none. Raises ProviderFailed or RequestRefused where it tells of a
        failure or is not understood."""
        ...

    def at_end(self) -> None:
        """The body ended before the answer was `complete`. Raises ProviderBadResponse unless it may end so."""
        ...


async def open_stream(response: ProviderResponse, reader: EventReader) -> ChunkStream:
    """The stream of a response, once its first chunk is there. Raises what the provider failed with until then; the
    response is closed then."""
    chunks = EventChunks(response, reader)
    try:
        first = await anext(chunks)
    except StopAsyncIteration:
        raise errors.bad_response("the stream ended without an answer") from None
    return ChunkStream(first, chunks)


class EventChunks:
    """Reads no further than it is asked to: what a slow consumer leaves stays in the sockets' buffers.

    The connection is closed, or given back to the pool, with the last chunk, the first failure, a cancellation or
    `aclose`, whichever comes first.
    """

    def __init__(self, response: ProviderResponse, reader: EventReader) -> None:
        self._response = response
        self._reader = reader
        self._parser = SseParser()
        self._events: deque[bytes] = deque()
        self._over = False
        self._started = False

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
            self._response.require(b"text/event-stream", "an event stream")
        reader = self._reader
        while not reader.complete:
            if self._events:
                chunk = reader.read(self._events.popleft())
                if chunk is not None:
                    return chunk
                continue
            piece = await self._response.next_piece()
            if not piece:
                reader.at_end()
                return None
            self._take(piece)
        await self._response.wait_for_the_end()
        return None

    def _take(self, piece: bytes) -> None:
        try:
            self._events.extend(self._parser.feed(piece))
        except EventTooLarge:
            raise errors.bad_response("one event of the stream is too large") from None

    def _close(self) -> None:
        self._over = True
        self._events.clear()
        self._response.close()
