"""A provider's answer in OpenAI's contract: as it came, but for the model's name where an alias was asked for."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import orjson
from starlette.responses import Response

from apps.platform_api.openai_edits import with_model, without_usage
from apps.platform_api.openai_errors import openai_error_body
from platform_app.chat import Served
from platform_app.errors import PlatformError
from platform_app.llm.answers import ChatChunk, Completion
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.observability.context import RequestContext

DONE = b"data: [DONE]\n\n"


def whole_answer(served: Served, completion: Completion) -> Response:
    """A JSON answer."""
    raw, alias = completion.raw, _alias(served)
    if alias is not None:
        raw = with_model(raw, completion.body, alias)
    return Response(raw, media_type="application/json")


async def completion_events(
    served: Served, chunks: ChunkStream, wants_usage: bool, context: RequestContext
) -> AsyncGenerator[bytes, None]:
    """Each chunk as an event, then `[DONE]`; where the provider fails in the middle, an event with the error instead,
    which OpenAI's clients raise.

    A failure before the first event is raised instead, while the answer can still have its status.
    """
    alias = _alias(served)
    started = False
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                data = _data(chunk, alias, wants_usage)
                if data is not None:
                    started = True
                    yield _event(data)
    except PlatformError as error:
        if not started:
            raise
        yield _event(orjson.dumps(openai_error_body(error, context)))
        return
    yield DONE


def _alias(served: Served) -> str | None:
    """The name that the caller asked for, where the provider has another one."""
    return served.model if served.model != served.upstream_model else None


def _event(data: bytes) -> bytes:
    """JSON may come in several lines."""
    return b"data: %b\n\n" % (data.replace(b"\n", b"\ndata: ") if b"\n" in data else data)


def _data(chunk: ChatChunk, alias: str | None, wants_usage: bool) -> bytes | None:
    """The event's data; None for what the client did not ask for. The gateway always asks the provider to count, which
    adds a chunk without choices and a `usage` to the others."""
    raw, body = chunk.raw, chunk.body
    if not wants_usage and "usage" in body:
        if body["usage"] is not None and not body["choices"]:
            return None
        raw, body = without_usage(raw, body)
    return raw if alias is None else with_model(raw, body, alias)
