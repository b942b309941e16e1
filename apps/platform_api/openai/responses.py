"""A provider's answer in OpenAI's contract: as it came, but for the model's name where an alias was asked for."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import orjson
from starlette.responses import Response

from apps.platform_api.openai.errors import openai_error_body
from apps.platform_api.openai.json_patch import with_text, without
from platform_app.chat import ChatResult
from platform_app.errors import PlatformError
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.responses import ChatChunk, ModelResponse
from platform_app.observability.context import RequestContext
from platform_app.observability.credential_forms import mask_credentials

DONE = b"data: [DONE]\n\n"


def whole_answer(served: ChatResult, completion: ModelResponse) -> Response:
    """A JSON answer."""
    raw = completion.raw
    if served.model != served.upstream_model:
        raw = with_text(raw, completion.body, "model", served.model)
    return Response(raw, media_type="application/json")


async def completion_events(
    served: ChatResult, chunks: ChunkStream, wants_usage: bool, context: RequestContext
) -> AsyncGenerator[bytes, None]:
    """Each chunk as an event, then `[DONE]`; where the provider fails in the middle, an event with the error instead,
    which OpenAI's clients raise.

    A failure before the first event is raised instead, while the answer can still have its status.
    """
    alias = served.model if served.model != served.upstream_model else None
    started = False
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                data = _data(chunk, alias, wants_usage)
                if data is not None:
                    started = True
                    yield b"data: %b\n\n" % data
    except PlatformError as error:
        if not started:
            raise
        yield error_event(error, context)
        return
    yield DONE


def error_event(error: PlatformError, context: RequestContext) -> bytes:
    """The event that ends a stream which failed; it has the request's id."""
    return mask_credentials(b"data: %b\n\n" % orjson.dumps(openai_error_body(error, context)))


def _data(chunk: ChatChunk, alias: str | None, wants_usage: bool) -> bytes | None:
    """The event's data; None for what the client did not ask for. The gateway always asks the provider to count, which
    adds a chunk without choices and a `usage` to the others."""
    hide_usage = not wants_usage and "usage" in chunk.body
    if hide_usage and chunk.body["usage"] is not None and not chunk.body.get("choices"):
        return None
    data = chunk.raw
    if alias is not None:
        data = with_text(data, chunk.body, "model", alias)
    if hide_usage:
        body = chunk.body if alias is None else {**chunk.body, "model": alias}
        data = without(data, body, "usage")
    return _on_one_line(data)


def _on_one_line(data: bytes) -> bytes:
    """JSON without line ends, which in an event's data would end it; inside of texts they are escaped."""
    return data.translate(None, b"\r\n") if b"\n" in data or b"\r" in data else data
