"""A stream reports once how it ended, and closes its source."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from platform_app.errors import ProviderBadResponse
from platform_app.llm.chunk_stream import ChunkStream, StreamObserver
from platform_app.llm.responses import ChatChunk
from platform_app.llm.usage.counts import TokenUsage


def chunk(text: str, **body: object) -> ChatChunk:
    return ChatChunk(text.encode(), {"choices": [{"delta": {"content": text}}], **body})


class Source:
    """Yields chunks, then ends as given; records whether it was closed."""

    def __init__(self, *chunks: ChatChunk, error: Exception | None = None, hangs: bool = False) -> None:
        self.closed = False
        self._chunks, self._error, self._hangs = chunks, error, hangs

    async def run(self) -> AsyncGenerator[ChatChunk, None]:
        try:
            for made in self._chunks:
                yield made
            if self._hangs:
                await asyncio.sleep(60)
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True


def stream_of(source: Source) -> tuple[ChunkStream, list[BaseException | None]]:
    endings: list[BaseException | None] = []
    stream = ChunkStream(chunk("a"), source.run())
    stream.on_end(StreamObserver.METERING, endings.append)
    return stream, endings


async def read(stream: ChunkStream) -> str:
    return b"".join([made.raw async for made in stream]).decode()


async def test_complete_stream_ends_with_none() -> None:
    source = Source(chunk("b"), chunk("c"))
    stream, endings = stream_of(source)
    assert await read(stream) == "abc"
    await stream.aclose()
    assert endings == [None]
    assert source.closed


async def test_failing_stream_ends_with_its_error() -> None:
    error = ProviderBadResponse("broken")
    stream, endings = stream_of(Source(chunk("b"), error=error))
    with pytest.raises(ProviderBadResponse):
        await read(stream)
    await stream.aclose()
    assert endings == [error]


@pytest.mark.parametrize("taken", [0, 1, 2])
async def test_closed_stream_ends_with_generator_exit(taken: int) -> None:
    source = Source(chunk("b"), chunk("c"))
    stream, endings = stream_of(source)
    for _ in range(taken):
        await anext(stream)
    await stream.aclose()
    await stream.aclose()
    assert [type(ending) for ending in endings] == [GeneratorExit]
    assert await read(stream) == ""


async def test_cancelled_stream_ends_with_cancellation() -> None:
    source = Source(hangs=True)
    stream, endings = stream_of(source)
    task = asyncio.ensure_future(read(stream))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [type(ending) for ending in endings] == [asyncio.CancelledError]
    assert source.closed


async def test_end_observers_run_in_declared_order() -> None:
    """The order is that of StreamObserver, whichever observer was registered first."""
    called: list[StreamObserver] = []
    stream = ChunkStream(chunk("a"), Source().run())
    for observer in reversed(StreamObserver):
        stream.on_end(observer, lambda _, each=observer: called.append(each))  # type: ignore[misc] # a default of a lambda
    await read(stream)
    assert called == list(StreamObserver)


async def test_stream_ends_although_close_fails() -> None:
    class Stubborn:
        async def __anext__(self) -> ChatChunk:
            raise StopAsyncIteration

        async def aclose(self) -> None:
            raise RuntimeError("no")

    stream = ChunkStream(chunk("a"), Stubborn())
    endings: list[BaseException | None] = []
    stream.on_end(StreamObserver.METERING, endings.append)
    with pytest.raises(RuntimeError):
        await stream.aclose()
    assert len(endings) == 1


@pytest.mark.parametrize("nothing", [None, 0])
async def test_later_null_or_zero_usage_keeps_counts(nothing: int | None) -> None:
    """Some providers repeat the usage with every chunk, and end with counts of null or 0."""
    counted = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    stream, _ = stream_of(Source(chunk("b", usage=counted), chunk("", usage=dict.fromkeys(counted, nothing))))
    await read(stream)
    assert stream.usage == TokenUsage(7, 3, 10)
    assert stream.counted_all(None)


async def test_content_after_last_count_is_not_counted() -> None:
    stream, _ = stream_of(Source(chunk("b", usage={"completion_tokens": 3}), chunk("c", usage={"prompt_tokens": 7})))
    await read(stream)
    assert not stream.counted_all(None)


async def test_stream_merges_reported_usage() -> None:
    source = Source(chunk("bcd", usage={"total_tokens": 3}), chunk("e", usage=None))
    stream, _ = stream_of(source)
    await read(stream)
    assert (stream.usage, stream.characters) == (TokenUsage(total_tokens=3), 5)
