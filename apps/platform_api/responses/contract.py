"""Write a model's response in the contract of the Responses API.

A provider that speaks it is passed on, but for the model's public name and the ids of stored responses. Any other
provider's chat completion is translated.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from starlette.responses import Response

from apps.platform_api.openai.errors import openai_error_body
from apps.platform_api.responses.native import NativeEvents, Renamed
from apps.platform_api.responses.requests import ResponsesBody
from platform_app.chat import ChatResult
from platform_app.credential_forms import mask_credentials
from platform_app.errors import (
    ContextLengthExceeded,
    PlatformError,
    ProviderRateLimited,
    RateLimited,
    RequestRefused,
)
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.codecs import lenient_json
from platform_app.llm.errors import failure_of_reading
from platform_app.llm.formats import ApiFormat
from platform_app.llm.responses import ModelResponse
from platform_app.llm.translation.responses.envelope import Envelope
from platform_app.llm.translation.responses.response import response_of_chat
from platform_app.llm.translation.responses.stream import ResponseWriter
from platform_app.observability.context import RequestContext

SignFor = Callable[[ChatResult], Callable[[str], str]]


class ResponsesContract:
    """Writes responses as OpenAI's Responses API does; see http/model/response.py."""

    def __init__(self, context: RequestContext, body: ResponsesBody, sign: SignFor | None = None) -> None:
        """`sign` returns what signs the ids of a result's stored response; None if nothing is stored."""
        self._context = context
        self._body = body
        self._sign = sign

    def whole(self, result: ChatResult, response: ModelResponse) -> Response:
        """Return the Response object."""
        if response.format is ApiFormat.RESPONSES:
            return Response(self._renamed(result).whole(response), media_type="application/json")
        made = response_of_chat(response, Envelope(self._body.fields, result.model), result.usage)
        return Response(lenient_json.dumps(made), media_type="application/json")

    async def events(self, result: ChatResult, chunks: ChunkStream) -> AsyncGenerator[bytes, None]:
        """Yield the events, and exactly one terminal event at the end: `response.completed`, `response.incomplete` or,
        after a failure, `response.failed`.

        A failure before the first event is raised instead, so that the response can still have its status.
        """
        envelope = Envelope(self._body.fields, result.model)
        writer: NativeEvents | ResponseWriter = ResponseWriter(envelope)
        if chunks.format is ApiFormat.RESPONSES:
            writer = NativeEvents(self._renamed(result), envelope)
        started = False
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    if events := writer.chunk(chunk):
                        started = True
                        yield events
            if events := writer.finish(chunks.usage):
                yield events
        except Exception as raised:  # noqa: BLE001 - converted, and logged if it is no PlatformError
            if not started:
                raise failure_of_reading(raised) from raised.__cause__
            yield self._failed(writer, raised)

    def _failed(self, writer: NativeEvents | ResponseWriter, raised: Exception) -> bytes:
        """Note why a stream that has begun failed, and return its last event. A separate method: a local variable of
        the caller with the error would be a reference cycle, since the error refers to the caller's frame."""
        error = failure_of_reading(raised)
        self._context.note_error(error)
        return self._failure(writer, error)

    def error_event(self, error: PlatformError) -> bytes:
        """Return the events of a stream that failed before its first event, when its status was already sent."""
        return self._failure(ResponseWriter(Envelope(self._body.fields, self._body.model or "")), error)

    def _failure(self, writer: NativeEvents | ResponseWriter, error: PlatformError) -> bytes:
        raised = openai_error_body(error, self._context)["error"]
        return mask_credentials(writer.fail(failure_code(error), raised["message"], raised))

    def _renamed(self, result: ChatResult) -> Renamed:
        return Renamed(
            result.model if result.model != result.upstream_model else None,
            None if self._sign is None else self._sign(result),
            self._body.previous,
        )


def failure_code(error: PlatformError) -> str:
    """Return OpenAI's code of a failed response. Its list has no codes for the rest; the message says more."""
    match error:
        case RateLimited() | ProviderRateLimited():
            return "rate_limit_exceeded"
        case ContextLengthExceeded():
            return "context_length_exceeded"  # not in the SDK's list, but what OpenAI sends and Codex reads
        case RequestRefused():
            return "invalid_prompt"
        case _:
            return "server_error"
