"""A streamed response: its chunks, the usage counted so far, and the observers of its end."""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any, Protocol

from platform_app.llm.responses import ChatChunk
from platform_app.llm.usage.counts import TokenUsage

EndCallback = Callable[[BaseException | None], None]
"""Called with how a stream ended. None: the response is complete. An Exception: the stream failed. GeneratorExit or
CancelledError: the reader stopped before the end. Must not raise."""


class StreamObserver(IntEnum):
    """The observers of a stream's end, in the order in which they are called: from the outermost to the innermost.

    Metering comes first, since it replaces the stream's `usage` by the counts that are charged.
    """

    METERING = 0
    """Settle, count and record what the call used (metering.py)."""
    BREAKER = 1
    """Report to the route's breaker whether the route works (policies/breaker.py)."""
    CONCURRENCY = 2
    """Free the call's place in the provider's concurrency limit (policies/concurrency.py)."""
    LOAD = 3
    """Count the end of a call for the strategies (policies/choice/route_load.py)."""
    FAILURE_LOG = 4
    """Mask our credential in the failure, and log it (models/provider_route.py)."""
    PROVIDER_METRICS = 5
    """Count and time the provider's call (models/provider_route.py)."""


class Chunks(Protocol):
    """The chunks after the first. An async generator implements it."""

    def __anext__(self) -> Awaitable[ChatChunk]:
        """Return the next chunk; StopAsyncIteration after the last chunk of a complete response."""
        ...

    async def aclose(self) -> None:
        """Release the connection, without reading on."""
        ...


class _ObservedChunks:
    """Chunks whose texts another part of the gateway reads too."""

    def __init__(self, chunks: Chunks, callback: Callable[[str], None]) -> None:
        self._chunks = chunks
        self._callback = callback

    async def __anext__(self) -> ChatChunk:
        chunk = await self._chunks.__anext__()
        self._callback(chunk.text)
        return chunk

    async def aclose(self) -> None:
        await self._chunks.aclose()


class ChunkStream:
    """The chunks of a response. The first has arrived, and usually the first content too. The caller must close it.

    Iterate once. The iteration ends normally only after the provider has completed the response. Otherwise it raises
    the provider's failure as a PlatformError.
    """

    def __init__(self, first: ChatChunk, rest: Chunks, buffered: Sequence[ChatChunk] = ()) -> None:
        """`buffered`: more chunks that have arrived, in order."""
        self.head = first.head
        """The object with the response's id and model."""
        self.format = first.format
        """The format of all chunks."""
        self._arrived = deque((first, *buffered))
        self.chunks = 0
        """The number of chunks so far."""
        self._latest: tuple[ChatChunk, ChatChunk] = (first, first)
        self._rest = rest
        self.usage: TokenUsage | None = None
        """The provider's counts so far. Some providers report a running total with every chunk."""
        self.provider_usage: Mapping[str, Any] | None = None
        """The provider's last usage object, unchanged."""
        self.characters = 0
        """The length of text, reasoning and tool calls so far, in characters of Latin script, for providers that do not
        count."""
        self._counted_at: int | None = None
        self._counted_last = False
        self._observers: list[EndCallback | None] = [None] * len(StreamObserver)
        self._ended = False

    @property
    def finish_reason(self) -> str | None:
        """The reason why the first choice ended, once it has: on the last chunk, or on the one before the usage."""
        before, last = self._latest
        return last.finish_reason or before.finish_reason

    def counted_all(self, error: BaseException | None) -> bool:
        """Return whether the provider's counts cover the whole content of a stream that ended with `error`."""
        return self._counted_at == self.characters and (error is None or self._counted_last)

    def on_end(self, observer: StreamObserver, callback: EndCallback) -> None:
        """Call `callback` once, when the stream ends; StreamObserver has the order."""
        self._observers[observer] = callback

    def observe_text(self, callback: Callable[[str], None]) -> None:
        """Call `callback` with the text of each chunk, those that have arrived included. A stream that is not observed
        costs nothing."""
        for chunk in self._arrived:
            callback(chunk.text)
        self._rest = _ObservedChunks(self._rest, callback)

    def __aiter__(self) -> "ChunkStream":
        return self

    async def __anext__(self) -> ChatChunk:
        if self._arrived:
            chunk = self._arrived.popleft()
        else:
            try:
                chunk = await self._rest.__anext__()
            except StopAsyncIteration:
                self._end(None)
                raise
            except BaseException as error:
                self._end(error)
                raise
        self._latest = (self._latest[1], chunk)
        self.chunks += 1
        self.characters += chunk.characters
        if (reported := chunk.reported) is not None:
            self.provider_usage, counts = reported
            self.usage = counts if self.usage is None else self.usage.merged(counts)
            if counts.completion_tokens or counts.total_tokens:
                self._counted_at, self._counted_last = self.characters, chunk.last
        return chunk

    async def aclose(self) -> None:
        """Close the connection to the provider at once, unless the response is complete."""
        while self._arrived:  # the provider also bills chunks that the reader did not read
            self.characters += self._arrived.popleft().characters
        try:
            await self._rest.aclose()
        finally:
            self._end(GeneratorExit())

    def _end(self, error: BaseException | None) -> None:
        if not self._ended:
            self._ended = True
            # Removed first: they refer to the call, which a reference cycle would keep until a garbage collection.
            observers, self._observers = self._observers, [None] * len(StreamObserver)
            for callback in observers:
                if callback is not None:
                    callback(error)
