"""A streamed answer on its way to a caller."""

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
    """Tell the route's breaker whether the route works (policies/breaker.py)."""
    CONCURRENCY = 2
    """Free the provider's slot (policies/concurrency.py)."""
    FAILURE_LOG = 3
    """Mask our credential in the failure, and log it (models/provider_route.py)."""
    PROVIDER_METRICS = 4
    """Count and time the provider's call (models/provider_route.py)."""


class Chunks(Protocol):
    """The chunks after the first. An async generator is one."""

    def __anext__(self) -> Awaitable[ChatChunk]:
        """The next one; StopAsyncIteration after the last of a complete answer."""
        ...

    async def aclose(self) -> None:
        """Release the connection, without reading on."""
        ...


class ChunkStream:
    """The chunks of an answer, of which the first has arrived, and usually the first content too. Whoever gets one must
    close it.

    Iterate once. Ends normally only after the provider said that the answer is complete; raises the provider's
    failure, one of the PlatformErrors, else.
    """

    def __init__(self, first: ChatChunk, rest: Chunks, held: Sequence[ChatChunk] = ()) -> None:
        """`held`: further chunks that have arrived, in order."""
        self._arrived = deque((first, *held))
        self._rest = rest
        self.usage: TokenUsage | None = None
        """What the provider counted so far; some report a running total with every chunk."""
        self.provider_usage: Mapping[str, Any] | None = None
        """Its last usage object, as it came."""
        self.characters = 0
        """Of text, reasoning and tool calls so far, in Latin script, for when the provider counts nothing."""
        self._counted_at: int | None = None
        self._counted_last = False
        self._observers: list[EndCallback | None] = [None] * len(StreamObserver)
        self._ended = False

    def counted_all(self, error: BaseException | None) -> bool:
        """Whether the provider counted all of what it made, in a stream that ended so."""
        return self._counted_at == self.characters and (error is None or self._counted_last)

    def on_end(self, observer: StreamObserver, callback: EndCallback) -> None:
        """Call `callback` once, when the stream ends; StreamObserver has the order."""
        self._observers[observer] = callback

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
        self.characters += chunk.characters
        if (reported := chunk.reported) is not None:
            self.provider_usage, counts = reported
            self.usage = counts if self.usage is None else self.usage.merged(counts)
            if counts.completion_tokens or counts.total_tokens:
                self._counted_at, self._counted_last = self.characters, chunk.last
        return chunk

    async def aclose(self) -> None:
        """Close the connection to the provider at once where the answer is not complete."""
        self._arrived.clear()
        try:
            await self._rest.aclose()
        finally:
            self._end(GeneratorExit())

    def _end(self, error: BaseException | None) -> None:
        if not self._ended:
            self._ended = True
            # Forgotten first: they hold the call, which a reference cycle would keep until a garbage collection.
            observers, self._observers = self._observers, [None] * len(StreamObserver)
            for callback in observers:
                if callback is not None:
                    callback(error)
