"""Write a provider's response in Anthropic's contract: unchanged if the provider speaks Messages, else translated."""

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import Any

import orjson
from starlette.responses import Response

from apps.platform_api.http.streaming import event
from apps.platform_api.messages.errors import anthropic_error_body
from apps.platform_api.openai.json_patch import on_one_line, with_inner_text, with_text
from platform_app.chat import ChatResult
from platform_app.credential_forms import mask_credentials
from platform_app.errors import PlatformError
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.errors import bad_response, failure_of_reading
from platform_app.llm.formats import ApiFormat
from platform_app.llm.responses import ModelResponse
from platform_app.llm.translation.messages.events import MessageEvents
from platform_app.llm.translation.messages.message import message_json
from platform_app.observability.context import RequestContext
from platform_app.value_types import request_dataclass

_MESSAGE_START = "message_start"


@request_dataclass(frozen=True, slots=True)
class MessagesContract:
    """Writes responses as Anthropic's API does; see http/model/response.py."""

    context: RequestContext

    def whole(self, result: ChatResult, response: ModelResponse) -> Response:
        """Return the message, with the public name of the model."""
        if response.format is not ApiFormat.MESSAGES:
            raw = message_json(response, result.model, result.usage or response.usage)
        elif result.model != result.upstream_model:
            raw = with_text(response.raw, response.body, "model", result.model)
        else:
            raw = response.raw
        return Response(raw, media_type="application/json")

    async def events(self, result: ChatResult, chunks: ChunkStream) -> AsyncGenerator[bytes, None]:
        """Yield the events of the stream; after a failure an event with the error, which Anthropic's clients raise.

        A failure before the first event is raised instead, so that the response can still have its status.
        """
        started = False
        written = _native(result, chunks) if chunks.format is ApiFormat.MESSAGES else _translated(result, chunks)
        try:
            async with aclosing(chunks), aclosing(written):
                async for data in written:
                    started = True
                    yield data
        except Exception as raised:  # noqa: BLE001 - converted, and logged if it is no PlatformError
            if not started:
                raise failure_of_reading(raised) from raised.__cause__
            yield self._failed(raised)

    def _failed(self, raised: Exception) -> bytes:
        """Note why a stream that has begun failed, and return its last event. A separate method: a local variable of
        the caller with the error would be a reference cycle, since the error refers to the caller's frame."""
        error = failure_of_reading(raised)
        self.context.note_error(error)
        return self.error_event(error)

    def error_event(self, error: PlatformError) -> bytes:
        """Return the event that ends a failed stream. It has the request's id."""
        return mask_credentials(b"event: error\ndata: %b\n\n" % orjson.dumps(anthropic_error_body(error, self.context)))


async def _native(result: ChatResult, chunks: ChunkStream) -> AsyncGenerator[bytes, None]:
    """Yield the provider's events, each with its own bytes."""
    alias = result.model if result.model != result.upstream_model else None
    async for chunk in chunks:
        kind, data = str(chunk.body.get("type")), chunk.raw
        if alias is not None and kind == _MESSAGE_START:
            data = with_inner_text(data, chunk.body, "message", "model", alias)
        yield b"event: %b\ndata: %b\n\n" % (_name(kind), on_one_line(data))


async def _translated(result: ChatResult, chunks: ChunkStream) -> AsyncGenerator[bytes, None]:
    """Yield the events of a chat completion's chunks. The last one is yielded alone: it completes the response."""
    events = MessageEvents(result.model)
    async for chunk in chunks:
        if data := _joined(events.add(chunk)):
            yield data
    *before, last = events.finish(chunks.usage)
    yield _joined(before)
    yield _joined([last])


def _joined(events: Iterable[Mapping[str, Any]]) -> bytes:
    try:
        return b"".join(event(str(each["type"]), each) for each in events)
    except ValueError:
        raise bad_response("an event of the stream is nested too deeply") from None


def _name(kind: str) -> bytes:
    """Return the name of an event; without line ends, which would begin another field."""
    return kind.encode("ascii", "ignore").translate(None, b"\r\n")
