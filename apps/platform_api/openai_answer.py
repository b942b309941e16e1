"""A provider's answer in OpenAI's contract: as it came, but for the model's name where an alias was asked for."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
from starlette.responses import Response

from apps.platform_api.openai_errors import openai_error_body
from platform_app.chat import Served
from platform_app.errors import PlatformError
from platform_app.llm.answers import ChatChunk, Completion
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.observability.context import RequestContext

DONE = b"data: [DONE]\n\n"


def whole_answer(served: Served, completion: Completion) -> Response:
    """A JSON answer."""
    raw = completion.raw
    if served.model != served.upstream_model:
        raw = orjson.dumps({**completion.body, "model": served.model})
    return Response(raw, media_type="application/json")


async def completion_events(
    served: Served, chunks: ChunkStream, wants_usage: bool, context: RequestContext
) -> AsyncGenerator[bytes, None]:
    """Each chunk as an event, then `[DONE]`; where the provider fails in the middle, an event with the error instead,
    which OpenAI's clients raise."""
    alias = served.model if served.model != served.upstream_model else None
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                data = _data(chunk, alias, wants_usage)
                if data is not None:
                    yield b"data: %b\n\n" % data
    except PlatformError as error:
        yield b"data: %b\n\n" % orjson.dumps(openai_error_body(error, context))
        return
    yield DONE


def _data(chunk: ChatChunk, alias: str | None, wants_usage: bool) -> bytes | None:
    """The event's data; None for what the client did not ask for. The gateway always asks the provider to count, which
    adds a chunk without choices and a `usage` to the others."""
    hide_usage = not wants_usage and "usage" in chunk.body
    if hide_usage and chunk.body["usage"] is not None and not chunk.body["choices"]:
        return None
    if alias is None and not hide_usage:
        return chunk.raw
    body: dict[str, Any] = dict(chunk.body)
    if alias is not None:
        body["model"] = alias
    if hide_usage:
        del body["usage"]
    return orjson.dumps(body)
