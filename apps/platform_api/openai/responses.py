"""A provider's response in OpenAI's contract: unchanged, except the model's name if the client used an alias."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import orjson
from starlette.responses import Response

from apps.platform_api.openai.errors import openai_error_body
from apps.platform_api.openai.json_patch import on_one_line, with_text, without
from platform_app.chat import ChatResult
from platform_app.credential_forms import mask_credentials
from platform_app.errors import PlatformError
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.errors import failure_of_reading
from platform_app.llm.responses import ChatChunk, ModelResponse
from platform_app.observability.context import RequestContext
from platform_app.value_types import request_dataclass

DONE = b"data: [DONE]\n\n"


@request_dataclass(frozen=True, slots=True)
class OpenAIContract:
    """Writes responses as OpenAI's API does; see model_response.Contract."""

    context: RequestContext
    wants_usage: bool = False
    """Whether the client asked for the chunk that counts the tokens."""

    def whole(self, result: ChatResult, response: ModelResponse) -> Response:
        """Return the provider's JSON, with the public name of the model."""
        raw = response.raw
        if result.model != result.upstream_model:
            raw = with_text(raw, response.body, "model", result.model)
        return Response(raw, media_type="application/json")

    async def events(self, result: ChatResult, chunks: ChunkStream) -> AsyncGenerator[bytes, None]:
        """Yield each chunk as an event, then `[DONE]`; after a failure an event with the error, which OpenAI's clients
        raise.

        A failure before the first event is raised instead, so that the response can still have its status.
        """
        alias = result.model if result.model != result.upstream_model else None
        started = False
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    data = _data(chunk, alias, self.wants_usage)
                    if data is not None:
                        started = True
                        yield b"data: %b\n\n" % data
        except Exception as raised:  # noqa: BLE001 - converted, and logged if it is no PlatformError
            if not started:
                raise failure_of_reading(raised) from raised.__cause__
            yield self._failed(raised)
            return
        yield DONE

    def _failed(self, raised: Exception) -> bytes:
        """Note why a stream that has begun failed, and return its last event. A separate method: a local variable of
        the caller with the error would be a reference cycle, since the error refers to the caller's frame."""
        error = failure_of_reading(raised)
        self.context.note_error(error)
        return self.error_event(error)

    def error_event(self, error: PlatformError) -> bytes:
        """Return the event that ends a failed stream. It has the request's id."""
        return mask_credentials(b"data: %b\n\n" % orjson.dumps(openai_error_body(error, self.context)))


def _data(chunk: ChatChunk, alias: str | None, wants_usage: bool) -> bytes | None:
    """Return the event's data, or None for a chunk that the client did not ask for.

    The gateway always asks the provider for token counts. They add a chunk without choices, and a `usage` to the other
    chunks.
    """
    hide_usage = not wants_usage and "usage" in chunk.body
    if hide_usage and chunk.body["usage"] is not None and not chunk.body.get("choices"):
        return None
    data = chunk.raw
    if alias is not None:
        data = with_text(data, chunk.body, "model", alias)
    if hide_usage:
        body = chunk.body if alias is None else {**chunk.body, "model": alias}
        data = without(data, body, "usage")
    return on_one_line(data)
