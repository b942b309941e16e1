"""A chat result in the platform's own contract: one JSON answer, or events."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.responses import Response

from apps.platform_api.http.errors import error_body
from apps.platform_api.http.streaming.sse import event
from platform_app.chat import ChatResult
from platform_app.errors import PlatformError
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.codecs import lenient_json
from platform_app.llm.errors import bad_response
from platform_app.llm.responses import ModelResponse
from platform_app.llm.usage.counts import TokenUsage
from platform_app.observability.context import RequestContext
from platform_app.observability.credential_forms import mask_credentials


def json_answer(
    served: ChatResult, completion: ModelResponse, context: RequestContext, conversation_id: str | None
) -> Response:
    """The whole answer, as contract.ChatResponse documents it."""
    answer = {
        **_ids(completion.id, served, context),
        "output": text_of_content(completion.message.get("content")),
        "message": completion.message,
        **_end(completion.finish_reason, served.usage, context, conversation_id),
    }
    try:
        return Response(lenient_json.dumps(answer), media_type="application/json")
    except ValueError:
        raise _too_deep() from None


async def answer_events(
    served: ChatResult, chunks: ChunkStream, context: RequestContext, conversation_id: str | None
) -> AsyncGenerator[bytes, None]:
    """`delta` events as chunks come, then one `done`, or one `error`.

    A failure before the first delta is raised instead, while the answer can still have its status.
    """
    answer_id: str | None = None
    finish_reason: str | None = None
    started = False
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                answer_id = answer_id or chunk.id
                finish_reason = chunk.finish_reason or finish_reason
                if delta := chunk.delta:
                    try:
                        data = event("delta", delta)
                    except ValueError:
                        raise _too_deep() from None
                    started = True
                    yield data
    except PlatformError as error:
        if not started:
            raise
        yield error_event(error, context)
        return
    end = _end(finish_reason, chunks.usage, context, conversation_id)
    yield event("done", {**_ids(answer_id, served, context), **end})


def text_of_content(content: object) -> str | None:
    """The text of a message's content: as it is, or what the text parts of a list say together, as some providers
    (Mistral) send it. Thinking, references and the like are no text. None where there is none."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        return None
    texts = [text for part in content if (text := _text_of_part(part)) is not None]
    return "".join(texts) if texts else None


def _text_of_part(part: object) -> str | None:
    match part:
        case str(text):
            return text
        case {"type": "text" | "output_text", "text": str(text)}:
            return text
        case {"type": "text" | "output_text", "text": {"value": str(text)}}:
            return text
        case _:
            return None


def error_event(error: PlatformError, context: RequestContext) -> bytes:
    """The event that ends a stream which failed; it has the request's id."""
    return mask_credentials(event("error", error_body(error, context)))


def _too_deep() -> PlatformError:
    """What a provider sent is parsed deeper than it can be written: then it is the provider's fault."""
    return bad_response("the answer is nested too deeply")


def _ids(answer_id: str | None, served: ChatResult, context: RequestContext) -> dict[str, Any]:
    return {
        "status": "ok",
        "id": answer_id or f"chat-{context.request_id}",
        "request_id": context.request_id,
        "trace_id": context.trace.trace_id,
        "provider": served.provider,
        "model": served.model,
    }


def _end(
    finish_reason: str | None, usage: TokenUsage | None, context: RequestContext, conversation_id: str | None
) -> dict[str, Any]:
    return {
        "finish_reason": finish_reason,
        "usage": None if usage is None else _usage(usage),
        "conversation_id": conversation_id,
        "duration_ms": context.elapsed_ms(time.perf_counter()),
    }


def _usage(usage: TokenUsage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "cached_tokens": usage.cached_tokens,
    }
