"""A model's response in the platform's own contract: one JSON object, or server-sent events."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.responses import Response

from apps.platform_api.http.errors import error_body
from apps.platform_api.http.streaming import event
from platform_app.chat import ChatResult
from platform_app.credential_forms import mask_credentials
from platform_app.errors import PlatformError
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.codecs import lenient_json
from platform_app.llm.errors import bad_response, failure_of_reading
from platform_app.llm.message_shapes import parts_of, text_of_part
from platform_app.llm.responses import ModelResponse
from platform_app.llm.usage.counts import TokenUsage
from platform_app.observability.context import RequestContext
from platform_app.value_types import request_dataclass


@request_dataclass(frozen=True, slots=True)
class PlatformContract:
    """Writes responses as chat/schemas.py documents them; see model_response.Contract."""

    context: RequestContext
    conversation_id: str | None
    """The client's own id, which is returned."""

    def whole(self, result: ChatResult, response: ModelResponse) -> Response:
        """Return the JSON response, as schemas.ChatResponse documents it."""
        content = {
            **self._ids(response.id, result),
            "output": text_of_content(response.message.get("content")),
            "message": response.message,
            **self._end(response.finish_reason, result.usage),
        }
        try:
            return Response(lenient_json.dumps(content), media_type="application/json")
        except ValueError:
            raise _too_deep() from None

    async def events(self, result: ChatResult, chunks: ChunkStream) -> AsyncGenerator[bytes, None]:
        """Yield a `delta` event for each chunk with content, then one `done` or one `error`.

        A failure before the first delta is raised instead, so that the response can still have its status.
        """
        response_id: str | None = None
        finish_reason: str | None = None
        started = False
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    response_id = response_id or chunk.id
                    finish_reason = chunk.finish_reason or finish_reason
                    if delta := chunk.delta:
                        try:
                            data = event("delta", delta)
                        except ValueError:
                            raise _too_deep() from None
                        started = True
                        yield data
        except Exception as raised:  # noqa: BLE001 - converted, and logged if it is no PlatformError
            if not started:
                raise failure_of_reading(raised) from raised.__cause__
            yield self._failed(raised)
            return
        yield event("done", {**self._ids(response_id, result), **self._end(finish_reason, chunks.usage)})

    def _failed(self, raised: Exception) -> bytes:
        """Note why a stream that has begun failed, and return its last event. A separate method: a local variable of
        the caller with the error would be a reference cycle, since the error refers to the caller's frame."""
        error = failure_of_reading(raised)
        self.context.note_error(error)
        return self.error_event(error)

    def error_event(self, error: PlatformError) -> bytes:
        """Return the event that ends a failed stream. It has the request's id."""
        return mask_credentials(event("error", error_body(error, self.context)))

    def _ids(self, response_id: str | None, result: ChatResult) -> dict[str, Any]:
        return {
            "status": "ok",
            "id": response_id or f"chat-{self.context.request_id}",
            "request_id": self.context.request_id,
            "trace_id": self.context.trace.trace_id,
            "provider": result.provider,
            "model": result.model,
        }

    def _end(self, finish_reason: str | None, usage: TokenUsage | None) -> dict[str, Any]:
        return {
            "finish_reason": finish_reason,
            "usage": None if usage is None else _usage(usage),
            "conversation_id": self.conversation_id,
            "duration_ms": self.context.elapsed_ms(time.perf_counter()),
        }


def text_of_content(content: object) -> str | None:
    """Return the text of a message's content, or None if it has no text.

    Content is a text, or a list of parts as some providers (Mistral) send it. The text parts are joined; other parts,
    such as reasoning and references, are left out.
    """
    if isinstance(content, str):
        return content
    texts = [text for part in parts_of(content) if (text := text_of_part(part)) is not None]
    return "".join(texts) if texts else None


def _too_deep() -> PlatformError:
    """Return the error for a provider's JSON that the parser reads but the serializer cannot write."""
    return bad_response("the response is nested too deeply")


def _usage(usage: TokenUsage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "cached_tokens": usage.cached_tokens,
    }
