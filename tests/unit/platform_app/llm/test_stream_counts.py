"""Whether a provider's counts cover the whole content of a stream."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.responses import ChatChunk


async def read(*usages: dict[str, Any] | None) -> ChunkStream:
    """Read a stream with one letter and one usage object, or none, in each chunk."""
    made = [
        ChatChunk(b"", {"choices": [{"delta": {"content": "a"}}], **({} if usage is None else {"usage": usage})})
        for usage in usages
    ]

    async def rest() -> AsyncGenerator[ChatChunk, None]:
        for each in made[1:]:
            yield each

    stream = ChunkStream(made[0], rest())
    async for _ in stream:
        pass
    return stream


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 9, "completion_tokens": 2},
        {"total_tokens": 11},
        {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
    ],
)
async def test_counts_of_the_last_chunk_cover_the_stream(usage: dict[str, Any]) -> None:
    """A total is not needed, and neither are its parts."""
    assert (await read(None, usage)).counted_all(None)


@pytest.mark.parametrize("usages", [(None, None), (None, {"prompt_tokens": 9}), ({"total_tokens": 10}, None)])
async def test_counts_before_the_last_content_do_not_cover_it(usages: tuple[dict[str, Any] | None, ...]) -> None:
    assert not (await read(*usages)).counted_all(None)
